; A PVH kernel that reports the hvm_start_info it was given, and powers the machine off.
;
; Under Xen (`dom0=pvh`, or as a PVH guest) it writes through the console hypercall and ends with SCHEDOP_shutdown.
; Elsewhere, e.g. `qemu-system-x86_64 -kernel pvh.elf`, it writes to COM1 and ends by ACPI. It runs wherever it is
; put. Structures: xen/include/public/arch-x86/hvm/start_info.h; entry state: docs/misc/pvh.pandoc.

        bits    32
        %define TAG "pvh: "
        %define ELF_NOTES
        %include "elf.inc"
        %include "xen.inc"

LOAD            equ 0x100000

        elf32_begin LOAD, entry

notes:
        xen_note XEN_ELFNOTE_XEN_VERSION, db "xen-3.0", 0
        xen_note XEN_ELFNOTE_GUEST_OS, db "mbtool-sample", 0
        xen_note XEN_ELFNOTE_GUEST_VERSION, db "pvh", 0
        xen_note XEN_ELFNOTE_LOADER, db "generic", 0
        xen_note XEN_ELFNOTE_SUPPORTED_FEATURES, dd 1 << XENFEAT_dom0
        xen_note XEN_ELFNOTE_PHYS32_RELOC, dd 0x1000, 0x100000, 0xffffffff      ; alignment, lowest, highest address
        xen_note XEN_ELFNOTE_PHYS32_ENTRY, dd entry
notes_end:

        %include "report.inc"
        %include "machine32.inc"

START_MAGIC     equ 0x336ec578
HAS_MEMMAP      equ 0               ; our flag bit for the fields of version 1

SI_VERSION      equ 4
SI_NR_MODULES   equ 12
SI_MODLIST      equ 16
SI_CMDLINE      equ 24
SI_MEMMAP       equ 40
SI_MEMMAP_COUNT equ 48
SI_SIZE         equ 56

entry:
        locate_image
        save_entry_state
        call    find_xen
        cmp     dword [var(under_xen)], 0
        jne     .begin
        call    com1_init
.begin:
        lea     eax, [var(entry_state)]
        show_fields entry_state_fields, eax
        cmp     dword [ebx], START_MAGIC
        je      .report
        say     "error: not entered by a PVH loader"
        jmp     .end
.report:
        xor     edx, edx            ; from here on ebx = start info, edx = flags for its tables
        cmp     dword [ebx + SI_VERSION], 1
        jb      .known
        bts     edx, HAS_MEMMAP
.known: show_fields start_info_fields, ebx
        call    show_cmdline
        call    show_modules
        call    show_memmap
        call    show_xen_memory_map
        show_raw ebx, SI_SIZE
.end:   say     "end"
        cmp     dword [var(under_xen)], 0
        je      power_off
        jmp     xen_shutdown

; Every address is 64 bits wide; Xen and QEMU keep what they point to below 4 GiB, where this code can read it.
start_info_fields:
        field   0, 4, "magic"
        field   SI_VERSION, 4, "version"
        field   8, 4, "flags"
        field   SI_NR_MODULES, 4, "nr_modules"
        field   SI_MODLIST, 8, "modlist_paddr"
        field   SI_CMDLINE, 8, "cmdline_paddr"
        field   32, 8, "rsdp_paddr"
        field   SI_MEMMAP, 8, "memmap_paddr", HAS_MEMMAP
        field   SI_MEMMAP_COUNT, 4, "memmap_entries", HAS_MEMMAP
        field   52, 4, "reserved", HAS_MEMMAP
        end_fields

show_cmdline:
        mov     eax, [ebx + SI_CMDLINE]
        test    eax, eax
        jz      .done
        show_text "cmdline.string", eax
.done:  ret

MODULE_SIZE     equ 32

show_modules:
        mov     edi, [ebx + SI_MODLIST]
        xor     ecx, ecx
.next:  cmp     ecx, [ebx + SI_NR_MODULES]
        jae     .done
        in_array "modlist", ecx
        show_fields module_fields, edi
        mov     eax, [edi + 16]
        test    eax, eax
        jz      .data
        show_text "cmdline.string", eax
.data:  push    edx
        mov     eax, [edi]
        mov     edx, [edi + 8]
        show_crc32 "crc32", eax, edx
        pop     edx
        add     edi, MODULE_SIZE
        inc     ecx
        jmp     .next
.done:  not_in_array
        ret
module_fields:
        field   0, 8, "paddr"
        field   8, 8, "size"
        field   16, 8, "cmdline_paddr"
        field   24, 8, "reserved"
        end_fields

MEMMAP_SIZE     equ 24

show_memmap:
        bt      edx, HAS_MEMMAP
        jnc     .done
        mov     edi, [ebx + SI_MEMMAP]
        xor     ecx, ecx
.next:  cmp     ecx, [ebx + SI_MEMMAP_COUNT]
        jae     .done
        in_array "memmap", ecx
        show_fields memmap_fields, edi
        add     edi, MEMMAP_SIZE
        inc     ecx
        jmp     .next
.done:  not_in_array
        ret
memmap_fields:
        field   0, 8, "addr"
        field   8, 8, "size"
        field   16, 4, "type"
        field   20, 4, "reserved"
        end_fields

; ---- Under Xen -------------------------------------------------------------------------------------------------

; Xen answers in one of the CPUID ranges for hypervisors, leaves 0x40000000, 0x40000100, ... With it, `under_xen` is
; set and the hypercall page filled: leaf base + 2 names the register that takes the page's address in ebx.
find_xen:
        push    ebx
        mov     edi, 0x40000000
.leaf:  mov     eax, edi
        cpuid
        cmp     ebx, "XenV"
        jne     .more
        cmp     ecx, "MMXe"
        jne     .more
        cmp     edx, "nVMM"
        je      .found
.more:  add     edi, 0x100
        cmp     edi, 0x40010000
        jb      .leaf
        pop     ebx
        ret
.found: lea     eax, [edi + 2]
        cpuid
        mov     ecx, ebx
        lea     eax, [var(hypercall_page)]
        xor     edx, edx
        wrmsr
        mov     dword [var(under_xen)], 1
        pop     ebx
        ret

%macro hypercall 1                  ; number; arguments in ebx, ecx, edx; result in eax
        lea     eax, [var(hypercall_page + %1 * HYPERCALL_STUB)]
        call    eax
%endmacro

emit:                               ; ecx bytes at esi
        cmp     dword [var(under_xen)], 0
        je      com1_emit
        push    ebx
        mov     ebx, CONSOLEIO_write
        mov     edx, esi
        hypercall __HYPERVISOR_console_io
        pop     ebx
        ret

xen_shutdown:
        mov     dword [var(argument)], SHUTDOWN_poweroff
        mov     ebx, SCHEDOP_shutdown
        lea     ecx, [var(argument)]
        hypercall __HYPERVISOR_sched_op
.halt:  hlt
        jmp     .halt

E820_MAX        equ 64
E820_SIZE       equ 20

; A dom0 has no memory map in its start info (version 0): it must ask for it.
show_xen_memory_map:
        cmp     dword [var(under_xen)], 0
        je      .done
        mov     dword [var(argument)], E820_MAX         ; struct xen_memory_map: nr_entries, buffer
        lea     edi, [var(e820)]
        mov     [var(argument + 4)], edi
        push    ebx
        push    edx
        mov     ebx, XENMEM_memory_map
        lea     ecx, [var(argument)]
        hypercall __HYPERVISOR_memory_op
        pop     edx
        pop     ebx
        test    eax, eax
        jnz     .done
        xor     ecx, ecx
.next:  cmp     ecx, [var(argument)]
        jae     .done
        in_array "e820", ecx
        show_fields e820_fields, edi
        add     edi, E820_SIZE
        inc     ecx
        jmp     .next
.done:  not_in_array
        ret
e820_fields:
        field   0, 8, "addr"
        field   8, 8, "size"
        field   16, 4, "type"
        end_fields

        elf_bss
        alignb  4096
hypercall_page: resb 4096
        report_bss
        entry_state_bss
under_xen:      resd 1
argument:       resd 2
e820:           resb E820_MAX * E820_SIZE
        stack_bss
memory_end:
        elf_end
