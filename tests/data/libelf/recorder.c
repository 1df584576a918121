/*
 * Says what Xen's own libelf makes of ELF files: the truth that xen_dom_parms is tested against.
 *
 * Linked with xen/common/libelf/{libelf-tools,libelf-loader,libelf-dominfo}.c of one Xen version (see
 * make_vectors.py). Reads files from stdin, each behind its size (u32); writes two lines for each, PV then PVH:
 * "init" when elf_init refuses it, else NAME=NUMBER pairs and the strings in hexadecimal.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/libelf/libelf.h>

static char first_error[512];

static void on_message(struct elf_binary *elf, void *data, bool is_error, const char *format, va_list arguments)
{
    if (is_error && !first_error[0])
        vsnprintf(first_error, sizeof(first_error), format, arguments);
}

#define NUMBER(name, value) printf(name "=%" PRIu64 " ", (uint64_t)(value))

static void text(const char *name, const char *value)
{
    printf("%s=x", name);
    for (; *value && *value != '\n'; value++)
        printf("%02x", (unsigned char)*value);
    putchar(' ');
}

static void record(const char *image, size_t size, bool hvm)
{
    struct elf_binary elf;
    struct elf_dom_parms parms;

    memset(&parms, 0, sizeof(parms));
    first_error[0] = 0;
    if (elf_init(&elf, image, size)) {
        puts("init");
        return;
    }
    elf_set_log(&elf, on_message, NULL, false);
    elf_parse_binary(&elf);
#ifdef TOLD /* since 4.16 libelf is told what it parses for */
    int refused = elf_xen_parse(&elf, &parms, hvm);
#else
    int refused = elf_xen_parse(&elf, &parms);
#endif
    NUMBER("refused", !!refused);
    NUMBER("pstart", elf.pstart);
    NUMBER("pend", elf.pend);
    NUMBER("virt_base", parms.virt_base);
    NUMBER("virt_kstart", parms.virt_kstart);
    NUMBER("virt_kend", parms.virt_kend);
    NUMBER("virt_entry", parms.virt_entry);
    NUMBER("virt_hypercall", parms.virt_hypercall);
    NUMBER("virt_hv_start_low", parms.virt_hv_start_low);
    NUMBER("p2m_base", parms.p2m_base);
    NUMBER("elf_paddr_offset", parms.elf_paddr_offset);
    NUMBER("unmapped_initrd", parms.unmapped_initrd);
    NUMBER("pae", parms.pae);
    NUMBER("bsd_symtab", parms.bsd_symtab);
    NUMBER("bsd_symtab_pstart", elf.bsd_symtab_pstart);
    NUMBER("bsd_symtab_pend", elf.bsd_symtab_pend);
    NUMBER("phys_entry", parms.phys_entry);
    NUMBER("f_supported", parms.f_supported[0]);
    NUMBER("f_required", parms.f_required[0]);
    NUMBER("has_supported_features_note", parms.elf_notes[XEN_ELFNOTE_SUPPORTED_FEATURES].type != XEN_ENT_NONE);
#ifdef RELOC /* since 4.19 */
    NUMBER("phys_reloc", parms.phys_reloc);
    NUMBER("phys_align", parms.phys_align);
    NUMBER("phys_min", parms.phys_min);
    NUMBER("phys_max", parms.phys_max);
    NUMBER("palign", elf.palign);
#endif
    text("guest_os", parms.guest_os);
    text("guest_ver", parms.guest_ver);
    text("xen_ver", parms.xen_ver);
    text("loader", parms.loader);
    text("message", first_error);
    putchar('\n');
}

int main(void)
{
    uint32_t size;

    while (fread(&size, sizeof(size), 1, stdin) == 1) {
        char *image = malloc(size + 1);
        if (!image || fread(image, 1, size, stdin) != size)
            return 1;
        record(image, size, false);
        record(image, size, true);
        free(image);
    }
    return 0;
}
