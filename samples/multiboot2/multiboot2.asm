; A Multiboot 2 kernel that reports to COM1 what it was given, and powers the machine off.
;
; Boots with GRUB's `multiboot2` on a BIOS machine (QEMU's own -kernel knows only Multiboot 1). It runs wherever the
; loader puts it and says so in its header. Names are those of the Multiboot2 Specification 2.0, sections 3.1 and 3.6.

        bits    32
        %define TAG "mb2: "
        %include "elf.inc"

LOAD            equ 0x100000

HEADER_MAGIC    equ 0xe85250d6
ENTRY_MAGIC     equ 0x36d76289      ; what a Multiboot 2 loader leaves in eax
ARCH_I386       equ 0
OPTIONAL        equ 1               ; tag flag: a loader that does not know the tag may ignore it
PREFER_HIGH     equ 2               ; relocatable: the highest free address

        elf32_begin LOAD, entry

%macro header_tag 3+                ; type, flags, data directives
        align   8, db 0
%%start:
        dw      %1, %2
        dd      %%end - %%start
        %3
%%end:
%endmacro

        align   8, db 0
multiboot2_header:
        dd      HEADER_MAGIC, ARCH_I386, header_size
        dd      -(HEADER_MAGIC + ARCH_I386 + header_size)
        header_tag 1, 0, dd 4, 6                        ; information request: memory sizes and map, required
        header_tag 1, OPTIONAL, dd 1, 2, 3, 5, 8, 9, 10, 14, 15, 21
        header_tag 4, OPTIONAL, dd 1 << 1               ; console flags: EGA text is understood
        header_tag 5, OPTIONAL, dd 80, 25, 0            ; framebuffer: 80 x 25 characters
        header_tag 6, 0, times 0 db 0                   ; module align
        header_tag 10, OPTIONAL, dd LOAD, 0xffffffff, 4096, PREFER_HIGH     ; relocatable: min, max, align, where
        header_tag 0, 0, times 0 db 0                   ; end
header_size     equ $ - multiboot2_header

        %include "report.inc"
        %include "machine32.inc"

emit    equ com1_emit

TAG_TYPE        equ 0
TAG_SIZE        equ 4
TAG_DATA        equ 8

entry:
        locate_image
        save_entry_state
        call    com1_init
        lea     eax, [var(entry_state)]
        show_fields entry_state_fields, eax
        cmp     dword [var(entry_state.eax)], ENTRY_MAGIC
        je      .report
        say     "error: not entered by a Multiboot 2 loader"
        jmp     .end
.report:
        show_fields info_fields, ebx
        lea     edi, [ebx + TAG_DATA]       ; edi = tag, esi = end of the boot information, ecx = tag's index
        mov     esi, ebx
        add     esi, [ebx]
        xor     ecx, ecx
.tag:   cmp     edi, esi
        jae     .raw
        cmp     dword [edi + TAG_SIZE], TAG_DATA
        jb      .raw                        ; a tag smaller than its head would never end
        in_array "tags", ecx
        call    show_tag
        not_in_array
        cmp     dword [edi + TAG_TYPE], 0
        je      .raw
        mov     eax, [edi + TAG_SIZE]
        add     eax, 7
        and     eax, -8
        add     edi, eax
        inc     ecx
        jmp     .tag
.raw:   show_raw ebx, [ebx]
.end:   say     "end"
        jmp     power_off

info_fields:
        field   0, 4, "total_size"
        field   4, 4, "reserved"
        end_fields

; The fields of every type that is a plain structure, then what numbers alone do not tell.
show_tag:
        push    ecx
        push    esi
        show_fields tag_fields, edi
        mov     eax, [edi + TAG_TYPE]
        lea     esi, [var(tag_types)]
.find:  movzx   ecx, word [esi]
        cmp     ecx, END_OF_TYPES
        je      .special
        cmp     ecx, eax
        je      .found
        add     esi, 4
        jmp     .find
.found: movzx   esi, word [esi + 2]
        lea     esi, [ebp + esi]
        push    ebx
        mov     ebx, edi
        call    put_fields
        pop     ebx
.special:
        cmp     eax, 1
        je      show_string_tag
        cmp     eax, 2
        je      show_string_tag
        cmp     eax, 3
        je      show_module_tag
        cmp     eax, 6
        je      show_mmap_tag
        cmp     eax, 8
        je      show_color_info
end_show_tag:
        pop     esi
        pop     ecx
        ret

show_string_tag:
        lea     eax, [edi + TAG_DATA]
        show_text "string", eax
        jmp     end_show_tag

show_module_tag:
        lea     eax, [edi + 16]
        show_text "string", eax
        mov     eax, [edi + TAG_DATA]
        mov     ecx, [edi + TAG_DATA + 4]
        sub     ecx, eax
        show_crc32 "crc32", eax, ecx
        jmp     end_show_tag

show_mmap_tag:
        lea     eax, [edi + 16]             ; eax = entry, esi = end of the tag, ecx = index
        mov     esi, edi
        add     esi, [edi + TAG_SIZE]
        xor     ecx, ecx
.next:  cmp     eax, esi
        jae     .done
        cmp     dword [edi + TAG_DATA], 0
        je      .done                       ; entries of no size would never end
        in_array "mmap", ecx
        show_fields mmap_fields, eax
        add     eax, [edi + TAG_DATA]
        inc     ecx
        jmp     .next
.done:  jmp     end_show_tag

FB_TYPE         equ 29
FB_INDEXED      equ 0
FB_RGB          equ 1

show_color_info:
        cmp     byte [edi + FB_TYPE], FB_RGB
        jb      .palette
        ja      .done                       ; EGA text has no colours
        show_fields rgb_fields, edi
        jmp     end_show_tag
.palette:
        show_fields palette_fields, edi
.done:  jmp     end_show_tag

%macro tag_type 2                           ; type, its table of fields
        dw      %1, %2 - image
%endmacro
END_OF_TYPES    equ 0xffff
tag_types:
        tag_type 3, module_fields
        tag_type 4, meminfo_fields
        tag_type 5, bootdev_fields
        tag_type 6, mmap_tag_fields
        tag_type 7, vbe_fields
        tag_type 8, framebuffer_fields
        tag_type 9, elf_fields
        tag_type 10, apm_fields
        tag_type 11, pointer32_fields       ; EFI 32-bit system table
        tag_type 12, pointer64_fields       ; EFI 64-bit system table
        tag_type 13, smbios_fields
        tag_type 14, rsdp_v1_fields
        tag_type 15, rsdp_v2_fields
        tag_type 17, efi_mmap_fields
        tag_type 19, pointer32_fields       ; EFI 32-bit image handle
        tag_type 20, pointer64_fields       ; EFI 64-bit image handle
        tag_type 21, load_base_fields
        dw      END_OF_TYPES

tag_fields:
        field   TAG_TYPE, 4, "type"
        field   TAG_SIZE, 4, "size"
        end_fields
module_fields:
        field   8, 4, "mod_start"
        field   12, 4, "mod_end"
        end_fields
meminfo_fields:
        field   8, 4, "mem_lower"           ; KiB
        field   12, 4, "mem_upper"          ; KiB above 1 MiB
        end_fields
bootdev_fields:
        field   8, 4, "biosdev"
        field   12, 4, "partition"
        field   16, 4, "sub_partition"
        end_fields
mmap_tag_fields:
        field   8, 4, "entry_size"
        field   12, 4, "entry_version"
        end_fields
mmap_fields:
        field   0, 8, "base_addr"
        field   8, 8, "length"
        field   16, 4, "type"
        field   20, 4, "reserved"
        end_fields
vbe_fields:
        field   8, 2, "vbe_mode"
        field   10, 2, "vbe_interface_seg"
        field   12, 2, "vbe_interface_off"
        field   14, 2, "vbe_interface_len"
        end_fields
framebuffer_fields:
        field   8, 8, "framebuffer_addr"
        field   16, 4, "framebuffer_pitch"
        field   20, 4, "framebuffer_width"
        field   24, 4, "framebuffer_height"
        field   28, 1, "framebuffer_bpp"
        field   FB_TYPE, 1, "framebuffer_type"
        field   30, 2, "reserved"           ; two bytes in GRUB, whatever the specification's drawing says
        end_fields
palette_fields:
        field   32, 2, "framebuffer_palette_num_colors"
        end_fields
rgb_fields:
        field   32, 1, "framebuffer_red_field_position"
        field   33, 1, "framebuffer_red_mask_size"
        field   34, 1, "framebuffer_green_field_position"
        field   35, 1, "framebuffer_green_mask_size"
        field   36, 1, "framebuffer_blue_field_position"
        field   37, 1, "framebuffer_blue_mask_size"
        end_fields
elf_fields:                                 ; four bytes each in GRUB, two in the specification's drawing
        field   8, 4, "num"
        field   12, 4, "entsize"
        field   16, 4, "shndx"
        end_fields
apm_fields:
        field   8, 2, "version"
        field   10, 2, "cseg"
        field   12, 4, "offset"
        field   16, 2, "cseg_16"
        field   18, 2, "dseg"
        field   20, 2, "flags"
        field   22, 2, "cseg_len"
        field   24, 2, "cseg_16_len"
        field   26, 2, "dseg_len"
        end_fields
pointer32_fields:
        field   8, 4, "pointer"
        end_fields
pointer64_fields:
        field   8, 8, "pointer"
        end_fields
smbios_fields:
        field   8, 1, "major"
        field   9, 1, "minor"
        end_fields
rsdp_v1_fields:                             ; a copy of the ACPI 1.0 RSDP
        field   16, 1, "checksum"
        field   23, 1, "revision"
        field   24, 4, "rsdt_address"
        end_fields
rsdp_v2_fields:                             ; a copy of the ACPI 2.0 RSDP
        field   16, 1, "checksum"
        field   23, 1, "revision"
        field   24, 4, "rsdt_address"
        field   28, 4, "length"
        field   32, 8, "xsdt_address"
        field   40, 1, "extended_checksum"
        end_fields
efi_mmap_fields:
        field   8, 4, "descriptor_size"
        field   12, 4, "descriptor_version"
        end_fields
load_base_fields:
        field   8, 4, "load_base_addr"
        end_fields

        elf_bss
        report_bss
        entry_state_bss
        stack_bss
memory_end:
        elf_end
