; A 64-bit PV dom0 that reports its registers and start_info over Xen's console, and shuts the machine down.
;
; Assembled twice. pv-dom0.elf carries the notes of a Linux kernel: the P2M lies at an address of its own (INIT_P2M)
; and the initrd is not mapped (MOD_START_PFN). pv-dom0-mapped.elf (-D MAPPED) has neither, as GRUB for Xen: initrd
; and P2M lie behind the kernel in the initial mapping, and the report adds the initrd's CRC-32.
; Structures: xen/include/public/xen.h (start_info, dom0_vga_console_info).

        bits    64
        %define TAG "pv: "
        %define ELF_NOTES
        %include "elf.inc"
        %include "xen.inc"

LOAD            equ 0x100000                    ; p_paddr: in pseudo-physical memory, above VIRT_BASE
VIRT_BASE       equ 0xffffffff80000000
INIT_P2M        equ 0x8000000000

        elf64_begin LOAD, VIRT_BASE + LOAD, entry

notes:
        xen_note XEN_ELFNOTE_XEN_VERSION, db "xen-3.0", 0
        xen_note XEN_ELFNOTE_GUEST_OS, db "mbtool-sample", 0
        xen_note XEN_ELFNOTE_GUEST_VERSION, db "pv-dom0", 0
        xen_note XEN_ELFNOTE_LOADER, db "generic", 0
        xen_note XEN_ELFNOTE_VIRT_BASE, dq VIRT_BASE
        xen_note XEN_ELFNOTE_PADDR_OFFSET, dq 0
        xen_note XEN_ELFNOTE_ENTRY, dq entry
        xen_note XEN_ELFNOTE_HYPERCALL_PAGE, dq hypercall_page
        xen_note XEN_ELFNOTE_FEATURES, db "writable_page_tables|pae_pgdir_above_4gb", 0
        xen_note XEN_ELFNOTE_SUPPORTED_FEATURES, dd (1 << XENFEAT_writable_page_tables) | \
                                                    (1 << XENFEAT_pae_pgdir_above_4gb) | (1 << XENFEAT_dom0)
        xen_note XEN_ELFNOTE_PAE_MODE, db "yes", 0
        xen_note XEN_ELFNOTE_L1_MFN_VALID, dq 1, 1      ; mask, value: an entry is a frame if it is present
        xen_note XEN_ELFNOTE_SUSPEND_CANCEL, dd 1
        xen_note XEN_ELFNOTE_BSD_SYMTAB, db "no", 0
    %ifndef MAPPED
        xen_note XEN_ELFNOTE_INIT_P2M, dq INIT_P2M
        xen_note XEN_ELFNOTE_MOD_START_PFN, dd 1
    %endif
notes_end:

        %include "report.inc"

SI_INFO_OFF     equ 72
SI_INFO_SIZE    equ 76
SI_MOD_START    equ 112
SI_MOD_LEN      equ 120
SI_CMD_LINE     equ 128
SI_SIZE         equ 1168
VGA_INFO_SIZE   equ 40

entry:
        mov     [var(entry_state.rax)], rax
        mov     [var(entry_state.rbx)], rbx
        mov     [var(entry_state.rcx)], rcx
        mov     [var(entry_state.rdx)], rdx
        mov     [var(entry_state.rsi)], rsi
        mov     [var(entry_state.rdi)], rdi
        mov     [var(entry_state.rbp)], rbp
        mov     [var(entry_state.rsp)], rsp
        mov     [var(entry_state.r8)], r8
        mov     [var(entry_state.r9)], r9
        mov     [var(entry_state.r10)], r10
        mov     [var(entry_state.r11)], r11
        mov     [var(entry_state.r12)], r12
        mov     [var(entry_state.r13)], r13
        mov     [var(entry_state.r14)], r14
        mov     [var(entry_state.r15)], r15
        pushfq
        pop     qword [var(entry_state.rflags)]
        mov     [var(entry_state.cs)], cs
        mov     [var(entry_state.ds)], ds
        mov     [var(entry_state.es)], es
        mov     [var(entry_state.fs)], fs
        mov     [var(entry_state.gs)], gs
        mov     [var(entry_state.ss)], ss
        mov     rax, cr3            ; Xen answers for the CPU
        mov     [var(entry_state.cr3)], rax
        cld

        mov     rbx, rsi            ; from here on rbx = start_info
        lea     rax, [var(entry_state)]
        show_fields entry_state_fields, rax
        show_text "magic", rbx
        show_fields start_info_fields, rbx
        lea     rax, [rbx + SI_CMD_LINE]
        show_text "cmd_line", rax
        call    show_vga_info
    %ifdef MAPPED
        mov     rax, [rbx + SI_MOD_START]
        mov     rdx, [rbx + SI_MOD_LEN]
        show_crc32 "mod.crc32", rax, rdx
    %endif
        show_raw rbx, SI_SIZE + VGA_INFO_SIZE
        say     "end"

        mov     dword [var(reason)], SHUTDOWN_poweroff
        mov     edi, SCHEDOP_shutdown
        lea     rsi, [var(reason)]
        call    hypercall_page + __HYPERVISOR_sched_op * HYPERCALL_STUB
.stop:  jmp     .stop               ; never: the domain is gone

start_info_fields:
        field   32, 8, "nr_pages"
        field   40, 8, "shared_info"
        field   48, 4, "flags"
        field   56, 8, "store_mfn"
        field   64, 4, "store_evtchn"
        field   SI_INFO_OFF, 4, "console.dom0.info_off"
        field   SI_INFO_SIZE, 4, "console.dom0.info_size"
        field   88, 8, "pt_base"
        field   96, 8, "nr_pt_frames"
        field   104, 8, "mfn_list"
        field   SI_MOD_START, 8, "mod_start"
        field   SI_MOD_LEN, 8, "mod_len"
        field   1152, 8, "first_p2m_pfn"
        field   1160, 8, "nr_p2m_frames"
        end_fields

entry_state_fields:
        field   entry_state.rax - entry_state, 8, "rax"
        field   entry_state.rbx - entry_state, 8, "rbx"
        field   entry_state.rcx - entry_state, 8, "rcx"
        field   entry_state.rdx - entry_state, 8, "rdx"
        field   entry_state.rsi - entry_state, 8, "rsi"
        field   entry_state.rdi - entry_state, 8, "rdi"
        field   entry_state.rbp - entry_state, 8, "rbp"
        field   entry_state.rsp - entry_state, 8, "rsp"
        field   entry_state.r8 - entry_state, 8, "r8"
        field   entry_state.r9 - entry_state, 8, "r9"
        field   entry_state.r10 - entry_state, 8, "r10"
        field   entry_state.r11 - entry_state, 8, "r11"
        field   entry_state.r12 - entry_state, 8, "r12"
        field   entry_state.r13 - entry_state, 8, "r13"
        field   entry_state.r14 - entry_state, 8, "r14"
        field   entry_state.r15 - entry_state, 8, "r15"
        field   entry_state.rflags - entry_state, 8, "rflags"
        field   entry_state.cr3 - entry_state, 8, "cr3"
        field   entry_state.cs - entry_state, 2, "cs"
        field   entry_state.ds - entry_state, 2, "ds"
        field   entry_state.es - entry_state, 2, "es"
        field   entry_state.fs - entry_state, 2, "fs"
        field   entry_state.gs - entry_state, 2, "gs"
        field   entry_state.ss - entry_state, 2, "ss"
        end_fields

VGA_TEXT_MODE_3 equ 0x03

; The console's start info lies behind start_info, where console.dom0 says.
show_vga_info:
        mov     eax, [rbx + SI_INFO_OFF]
        test    eax, eax
        jz      .done
        add     rax, rbx
        show_fields vga_fields, rax
        cmp     byte [rax], VGA_TEXT_MODE_3
        jne     .graphics
        show_fields text_fields, rax
        ret
.graphics:
        show_fields lfb_fields, rax
.done:  ret
vga_fields:
        field   0, 1, "vga.video_type"
        end_fields
text_fields:
        field   4, 2, "vga.font_height"
        field   6, 2, "vga.cursor_x"
        field   8, 2, "vga.cursor_y"
        field   10, 2, "vga.rows"
        field   12, 2, "vga.columns"
        end_fields
lfb_fields:
        field   4, 2, "vga.width"
        field   6, 2, "vga.height"
        field   8, 2, "vga.bytes_per_line"
        field   10, 2, "vga.bits_per_pixel"
        field   12, 4, "vga.lfb_base"
        field   16, 4, "vga.lfb_size"       ; 64 KiB units
        end_fields

emit:                               ; rcx bytes at rsi
        push    rdi
        push    r11
        mov     edi, CONSOLEIO_write
        mov     rdx, rsi
        mov     rsi, rcx
        call    hypercall_page + __HYPERVISOR_console_io * HYPERCALL_STUB
        pop     r11
        pop     rdi
        ret

        elf_bss
        alignb  4096
hypercall_page: resb 4096           ; Xen fills it before the kernel runs
        report_bss
        alignb  8
entry_state:
.rax:   resq    1
.rbx:   resq    1
.rcx:   resq    1
.rdx:   resq    1
.rsi:   resq    1
.rdi:   resq    1
.rbp:   resq    1
.rsp:   resq    1
.r8:    resq    1
.r9:    resq    1
.r10:   resq    1
.r11:   resq    1
.r12:   resq    1
.r13:   resq    1
.r14:   resq    1
.r15:   resq    1
.rflags: resq   1
.cr3:   resq    1
.cs:    resw    1
.ds:    resw    1
.es:    resw    1
.fs:    resw    1
.gs:    resw    1
.ss:    resw    1
        alignb  4
reason: resd    1
memory_end:
        elf_end
