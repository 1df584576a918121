; A Multiboot 1 kernel that reports to COM1 what it was given, and powers the machine off.
;
; Boots with `qemu-system-x86_64 -kernel multiboot1.elf`, GRUB's `multiboot`, and any other Multiboot 1 loader.
; Names are those of the Multiboot Specification 0.6.96, section 3.3.

        bits    32
        %define TAG "mb1: "
        %include "elf.inc"

LOAD            equ 0x100000

HEADER_MAGIC    equ 0x1badb002
ENTRY_MAGIC     equ 0x2badb002      ; what a Multiboot loader leaves in eax
PAGE_ALIGN      equ 1 << 0          ; modules start on page boundaries
MEMORY_INFO     equ 1 << 1          ; mem_* and, where there is one, the memory map
HEADER_FLAGS    equ PAGE_ALIGN | MEMORY_INFO

        elf32_begin LOAD, entry

multiboot_header:
        dd      HEADER_MAGIC, HEADER_FLAGS, -(HEADER_MAGIC + HEADER_FLAGS)

        %include "report.inc"
        %include "machine32.inc"

emit    equ com1_emit

; Offsets in the boot information, and the bits of its `flags`.
MBI_FLAGS           equ 0
MBI_CMDLINE         equ 16
MBI_MODS_COUNT      equ 20
MBI_MODS_ADDR       equ 24
MBI_MMAP_LENGTH     equ 44
MBI_MMAP_ADDR       equ 48
MBI_DRIVES_LENGTH   equ 52
MBI_DRIVES_ADDR     equ 56
MBI_LOADER_NAME     equ 64
MBI_APM_TABLE       equ 68
MBI_FB_TYPE         equ 109
MBI_SIZE            equ 116         ; up to the end of color_info

HAS_MEMORY      equ 0
HAS_BOOT_DEVICE equ 1
HAS_CMDLINE     equ 2
HAS_MODS        equ 3
HAS_AOUT        equ 4
HAS_ELF         equ 5
HAS_MMAP        equ 6
HAS_DRIVES      equ 7
HAS_CONFIG      equ 8
HAS_LOADER_NAME equ 9
HAS_APM         equ 10
HAS_VBE         equ 11
HAS_FRAMEBUFFER equ 12

entry:
        locate_image
        save_entry_state
        call    com1_init
        lea     eax, [var(entry_state)]
        show_fields entry_state_fields, eax
        cmp     dword [var(entry_state.eax)], ENTRY_MAGIC
        je      .report
        say     "error: not entered by a Multiboot 1 loader"
        jmp     .end
.report:
        mov     edx, [ebx + MBI_FLAGS]      ; from here on ebx = boot information, edx = its flags
        show_fields mbi_fields, ebx
        call    show_strings
        call    show_modules
        call    show_mmap
        call    show_drives
        call    show_apm
        call    show_color_info
        show_raw ebx, MBI_SIZE
.end:   say     "end"
        jmp     power_off

mbi_fields:
        field   MBI_FLAGS, 4, "flags"
        field   4, 4, "mem_lower", HAS_MEMORY       ; KiB
        field   8, 4, "mem_upper", HAS_MEMORY       ; KiB above 1 MiB
        field   12, 4, "boot_device", HAS_BOOT_DEVICE
        field   MBI_CMDLINE, 4, "cmdline", HAS_CMDLINE
        field   MBI_MODS_COUNT, 4, "mods_count", HAS_MODS
        field   MBI_MODS_ADDR, 4, "mods_addr", HAS_MODS
        field   28, 4, "aout_tabsize", HAS_AOUT
        field   32, 4, "aout_strsize", HAS_AOUT
        field   36, 4, "aout_addr", HAS_AOUT
        field   28, 4, "elf_num", HAS_ELF
        field   32, 4, "elf_size", HAS_ELF
        field   36, 4, "elf_addr", HAS_ELF
        field   40, 4, "elf_shndx", HAS_ELF
        field   MBI_MMAP_LENGTH, 4, "mmap_length", HAS_MMAP
        field   MBI_MMAP_ADDR, 4, "mmap_addr", HAS_MMAP
        field   MBI_DRIVES_LENGTH, 4, "drives_length", HAS_DRIVES
        field   MBI_DRIVES_ADDR, 4, "drives_addr", HAS_DRIVES
        field   60, 4, "config_table", HAS_CONFIG
        field   MBI_LOADER_NAME, 4, "boot_loader_name", HAS_LOADER_NAME
        field   MBI_APM_TABLE, 4, "apm_table", HAS_APM
        field   72, 4, "vbe_control_info", HAS_VBE
        field   76, 4, "vbe_mode_info", HAS_VBE
        field   80, 2, "vbe_mode", HAS_VBE
        field   82, 2, "vbe_interface_seg", HAS_VBE
        field   84, 2, "vbe_interface_off", HAS_VBE
        field   86, 2, "vbe_interface_len", HAS_VBE
        field   88, 8, "framebuffer_addr", HAS_FRAMEBUFFER
        field   96, 4, "framebuffer_pitch", HAS_FRAMEBUFFER
        field   100, 4, "framebuffer_width", HAS_FRAMEBUFFER
        field   104, 4, "framebuffer_height", HAS_FRAMEBUFFER
        field   108, 1, "framebuffer_bpp", HAS_FRAMEBUFFER
        field   MBI_FB_TYPE, 1, "framebuffer_type", HAS_FRAMEBUFFER
        end_fields

show_strings:
        bt      edx, HAS_CMDLINE
        jnc     .name
        mov     eax, [ebx + MBI_CMDLINE]
        show_text "cmdline.string", eax
.name:  bt      edx, HAS_LOADER_NAME
        jnc     .done
        mov     eax, [ebx + MBI_LOADER_NAME]
        show_text "boot_loader_name.string", eax
.done:  ret

MODULE_SIZE     equ 16

show_modules:
        bt      edx, HAS_MODS
        jnc     .done
        mov     edi, [ebx + MBI_MODS_ADDR]
        xor     ecx, ecx
.next:  cmp     ecx, [ebx + MBI_MODS_COUNT]
        jae     .done
        in_array "mods", ecx
        show_fields module_fields, edi
        mov     eax, [edi + 8]
        test    eax, eax            ; a loader may leave the string away
        jz      .data
        show_text "string.text", eax
.data:  push    edx
        mov     eax, [edi]
        mov     edx, [edi + 4]
        sub     edx, eax
        show_crc32 "crc32", eax, edx
        pop     edx
        add     edi, MODULE_SIZE
        inc     ecx
        jmp     .next
.done:  not_in_array
        ret
module_fields:
        field   0, 4, "mod_start"
        field   4, 4, "mod_end"
        field   8, 4, "string"
        field   12, 4, "reserved"
        end_fields

show_mmap:
        bt      edx, HAS_MMAP
        jnc     .done
        mov     edi, [ebx + MBI_MMAP_ADDR]
        mov     esi, edi
        add     esi, [ebx + MBI_MMAP_LENGTH]
        xor     ecx, ecx
.next:  cmp     edi, esi
        jae     .done
        in_array "mmap", ecx
        show_fields mmap_fields, edi
        add     edi, [edi]
        add     edi, 4              ; `size` does not count itself
        inc     ecx
        jmp     .next
.done:  not_in_array
        ret
mmap_fields:
        field   0, 4, "size"
        field   4, 8, "base_addr"
        field   12, 8, "length"
        field   20, 4, "type"
        end_fields

show_drives:
        bt      edx, HAS_DRIVES
        jnc     .done
        mov     edi, [ebx + MBI_DRIVES_ADDR]
        mov     esi, edi
        add     esi, [ebx + MBI_DRIVES_LENGTH]
        xor     ecx, ecx
.next:  cmp     edi, esi
        jae     .done
        cmp     dword [edi], 0
        je      .done               ; an entry of no size would never end
        in_array "drives", ecx
        show_fields drive_fields, edi
        add     edi, [edi]
        inc     ecx
        jmp     .next
.done:  not_in_array
        ret
drive_fields:
        field   0, 4, "size"
        field   4, 1, "drive_number"
        field   5, 1, "drive_mode"
        field   6, 2, "drive_cylinders"
        field   8, 1, "drive_heads"
        field   9, 1, "drive_sectors"
        end_fields

show_apm:
        bt      edx, HAS_APM
        jnc     .done
        mov     eax, [ebx + MBI_APM_TABLE]
        show_fields apm_fields, eax
.done:  ret
apm_fields:
        field   0, 2, "apm.version"
        field   2, 2, "apm.cseg"
        field   4, 4, "apm.offset"
        field   8, 2, "apm.cseg_16"
        field   10, 2, "apm.dseg"
        field   12, 2, "apm.flags"
        field   14, 2, "apm.cseg_len"
        field   16, 2, "apm.cseg_16_len"
        field   18, 2, "apm.dseg_len"
        end_fields

FB_INDEXED      equ 0
FB_RGB          equ 1

show_color_info:
        bt      edx, HAS_FRAMEBUFFER
        jnc     .done
        cmp     byte [ebx + MBI_FB_TYPE], FB_RGB
        jb      .palette
        ja      .done               ; EGA text has no colours
        show_fields rgb_fields, ebx
        ret
.palette:
        show_fields palette_fields, ebx
.done:  ret
palette_fields:
        field   110, 4, "framebuffer_palette_addr"
        field   114, 2, "framebuffer_palette_num_colors"
        end_fields
rgb_fields:
        field   110, 1, "framebuffer_red_field_position"
        field   111, 1, "framebuffer_red_mask_size"
        field   112, 1, "framebuffer_green_field_position"
        field   113, 1, "framebuffer_green_mask_size"
        field   114, 1, "framebuffer_blue_field_position"
        field   115, 1, "framebuffer_blue_mask_size"
        end_fields

        elf_bss
        report_bss
        entry_state_bss
        stack_bss
memory_end:
        elf_end
