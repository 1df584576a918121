; A kernel that stops at its first instruction, so that what its loader left in memory can be saved.
; nasm -f elf32 halt.asm && ld -m elf_i386 -Ttext 0x100000 -o halt.elf halt.o
bits 32
global _start
section .text

align 8
multiboot1:
        dd 0x1BADB002                   ; magic
        dd 7                            ; flags: modules page-aligned, memory information, video mode
        dd -(0x1BADB002 + 7)            ; checksum
        dd 0, 0, 0, 0, 0                ; address fields, not valid
        dd 1, 80, 25, 0                 ; EGA text

align 8
multiboot2:
        dd 0xE85250D6                   ; magic
        dd 0                            ; i386
        dd multiboot2_end - multiboot2  ; header_length
        dd -(0xE85250D6 + 0 + (multiboot2_end - multiboot2))
align 8
        dw 1, 0                         ; information request, required
        dd 16
        dd 4, 6                         ; basic memory information, memory map
align 8
        dw 5, 1                         ; framebuffer, optional
        dd 20
        dd 1024, 768, 32
align 8
        dw 10, 1                        ; relocatable, optional: makes the loader tell the load base
        dd 24
        dd 0x100000, 0x8000000, 0x1000, 0
align 8
        dw 0, 0                         ; end
        dd 8
multiboot2_end:

_start: cli
.stop:  hlt
        jmp .stop
