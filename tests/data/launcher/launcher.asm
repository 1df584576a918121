; Carries out a load plan and enters its kernel: a Multiboot 1 kernel for tests, far above what plans use.
;
; Its first module: mode (16, 32 or 64), entry, esi or rsi, eax, ebx, esp, number of loads; for each load destination,
; offset in the module, size, zeros behind it; then the content. All numbers are 32 bits wide. eax, ebx and esp count
; in mode 32. In mode 16 the entry is cs and ip, and instead of esi there are the other segments' value and sp.

bits 32
section .text

    align 4
header:
    dd 0x1BADB002, 1, -(0x1BADB002 + 1)

global _start
_start:
    cld
    mov esp, stack_top
    mov ebx, [ebx + 24]             ; mods_addr
    mov ebp, [ebx]                  ; mod_start of the first
    lea edx, [ebp + 28]
    mov ebx, [ebp + 24]
.load:
    mov edi, [edx]
    mov esi, [edx + 4]
    add esi, ebp
    mov ecx, [edx + 8]
    rep movsb
    mov ecx, [edx + 12]
    xor eax, eax
    rep stosb
    add edx, 16
    dec ebx
    jnz .load
    cmp dword [ebp], 64
    je long_mode
    cmp dword [ebp], 16
    je real_mode

    lgdt [gdt32]
    jmp 0x10:.flat
.flat:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, [ebp + 4]
    mov [entry], eax
    mov eax, [ebp + 12]
    mov ebx, [ebp + 16]
    mov esp, [ebp + 20]
    mov esi, [ebp + 8]
    xor edi, edi
    xor ebp, ebp
    jmp [entry]

long_mode:
    ; 4 GiB mapped where they are, by pages of 2 MiB
    mov edi, tables + 0x2000
    mov eax, 0x83
    mov ecx, 4 * 512
.page:
    mov [edi], eax
    mov dword [edi + 4], 0
    add eax, 1 << 21
    add edi, 8
    loop .page
    mov dword [tables], tables + 0x1000 + 3
    mov dword [tables + 0x1000], tables + 0x2000 + 3
    mov dword [tables + 0x1008], tables + 0x3000 + 3
    mov dword [tables + 0x1010], tables + 0x4000 + 3
    mov dword [tables + 0x1018], tables + 0x5000 + 3
    mov eax, tables
    mov cr3, eax
    mov eax, cr4
    or eax, 1 << 5                  ; PAE
    mov cr4, eax
    mov ecx, 0xC0000080             ; EFER
    rdmsr
    or eax, 1 << 8                  ; LME
    wrmsr
    mov eax, cr0
    or eax, 1 << 31                 ; PG
    mov cr0, eax
    lgdt [gdt64]
    jmp 0x10:.wide
bits 64
.wide:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, [rbp + 4]
    mov esi, [rbp + 8]
    jmp rax

bits 32
real_mode:
    mov eax, [ebp + 4]
    mov [far_entry], eax            ; ip, cs
    mov eax, [ebp + 8]
    mov [stack_pointer], ax
    shr eax, 16
    mov [segments], ax
    mov esi, low_code
    mov edi, LOW
    mov ecx, low_end - low_code
    rep movsb
    lgdt [gdt16]
    jmp 0x10:LOW

LOW equ 0x7000
%define low(label) (label - low_code + LOW)

section .data
bits 16
low_code:
    mov ax, 0x18
    mov ds, ax
    mov es, ax
    mov ss, ax
    lidt [low(bios_idt)]
    mov eax, cr0
    and al, 0xFE
    mov cr0, eax
    jmp 0:low(.real)
.real:
    xor ax, ax
    mov ds, ax
    mov ax, [low(segments)]
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov sp, [low(stack_pointer)]
    push dword [low(far_entry)]
    mov ds, ax
    retf
bios_idt:
    dw 0x3FF
    dd 0
far_entry:
    dd 0
segments:
    dw 0
stack_pointer:
    dw 0
low_end:

bits 32
    align 8
entries16:
    dq 0, 0, 0x00009A000000FFFF, 0x000092000000FFFF
gdt16:
    dw 31
    dd entries16
    align 8
entries32:
    dq 0, 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF
gdt32:
    dw 31
    dd entries32
    align 8
entries64:
    dq 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF
gdt64:
    dw 31
    dd entries64

section .bss
    alignb 4096
tables:
    resb 0x6000
entry:
    resd 1
    alignb 4096
    resb 4096
stack_top:
