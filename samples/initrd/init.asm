; The /init of the sample initrd: shows a file of the other archive, says that it runs, and powers the machine off.
;
; A static program of some hundred bytes, so it runs on every 64-bit Linux, as a dom0 or on the bare machine.

        bits    64
        default rel
        %include "elf.inc"

SYS_read        equ 0
SYS_write       equ 1
SYS_open        equ 2
SYS_sync        equ 162
SYS_reboot      equ 169
STDOUT          equ 1
REBOOT_MAGIC1   equ 0xfee1dead
REBOOT_MAGIC2   equ 672274793
POWER_OFF       equ 0x4321fedc

        elf64_begin 0x400000, 0x400000, entry

%macro write_text 1                 ; label; its end is label_end
        mov     edi, STDOUT
        lea     rsi, [%1]
        mov     edx, %1_end - %1
        mov     eax, SYS_write
        syscall
%endmacro

entry:
        write_text hello

        lea     rdi, [early_path]
        xor     esi, esi            ; O_RDONLY
        mov     eax, SYS_open
        syscall
        test    eax, eax
        js      .off                ; the early archive was not unpacked: no line for it
        mov     edi, eax
        lea     rsi, [buffer]
        mov     edx, buffer_end - buffer
        xor     eax, eax            ; SYS_read
        syscall
        test    eax, eax
        jle     .off
        mov     edx, eax
        mov     edi, STDOUT
        lea     rsi, [buffer]
        mov     eax, SYS_write
        syscall

.off:   write_text goodbye
        mov     eax, SYS_sync
        syscall
        mov     edi, REBOOT_MAGIC1
        mov     esi, REBOOT_MAGIC2
        mov     edx, POWER_OFF
        mov     eax, SYS_reboot
        syscall
.wait:  pause                       ; init must not return: the kernel would panic
        jmp     .wait

hello:          db "init: mbtool sample initrd is running", 10
hello_end:
goodbye:        db "init: end", 10
goodbye_end:
early_path:     db "/kernel/mbtool-sample.txt", 0

        elf_bss
buffer:         resb 256
buffer_end:
memory_end:
        elf_end
