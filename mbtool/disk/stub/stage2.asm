; The second stage: does what its load list says, and nothing else.
;
;   1. asks the BIOS for its memory map;
;   2. for each item of the list: makes sure that the destination is usable memory, reads the extent through
;      INT 13h into a buffer below 1 MiB, copies it up in protected mode, checks its CRC-32, zeroes what follows;
;   3. writes the memory map in the shape that the list names, and the few numbers that only the machine knows;
;   4. sets the registers that the list names and jumps.
;
; Low memory:
;   0x00600  scratch (drive parameters)       0x11000  BIOS memory map, 24 bytes an entry
;   0x07c00  top of the stack                 0x13000  CRC tables, 4 KiB
;   0x08000  this code                        0x20000  read buffer, 64 KiB
;   0x09000  the load list (up to 0x11000)    0x30000  free for items, up to 0x80000
;
; The list's layout is that of mbtool/formats/load_list.py. In: dl = BIOS drive, dh = its sector size as a shift from
; 512 bytes. The list's LBAs always count 512 bytes.

        bits    16
        org     0x8000

MAP             equ 0x11000
MAP_MAX         equ 128
CRC_TABLES      equ 0x13000
BUFFER          equ 0x20000
BUFFER_SECTORS  equ 64                  ; 32 KiB a read: every BIOS can do that
LOW_START       equ 0x30000             ; items below 1 MiB must stay in here
LOW_END         equ 0x80000
MIB             equ 0x100000
SMAP            equ 0x534d4150

CODE32          equ 0x10                ; selectors as the Linux boot protocol wants them
DATA32          equ 0x18
CODE16          equ 0x20
DATA16          equ 0x28

        struc   list
.magic:         resd 1
.size:          resd 1
.crc:           resd 1
.items:         resd 1
.patches:       resd 1
.entry:         resd 1
.eax:           resd 1
.ebx:           resd 1
.ecx:           resd 1
.edx:           resd 1
.esi:           resd 1
.edi:           resd 1
.ebp:           resd 1
.esp:           resd 1
.map_shape:     resd 1
.map_address:   resd 1
.map_max:       resd 1
.first:
        endstruc

        struc   item
.lba:           resq 1
.bytes:         resd 1
.dest:          resd 1
.zero:          resd 1
.crc:           resd 1
.name:          resd 1
.skip:          resd 1                  ; bytes of the first sector that are not the item's, under 512
.end:
        endstruc

        struc   patch
.address:       resd 1
.base:          resd 1
.factor:        resd 1
.value:         resd 1
.end:
        endstruc

        dd      'mbS2'
        mov     [drive], dx             ; and shift
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        call    serial_init
        mov     si, hello
        call    print

        call    open_a20
        call    read_map
        mov     ebx, make_tables
        call    in_protected_mode

        mov     si, bad_list
        cmp     dword [load_list + list.magic], 'mbLL'
        jne     fail
        mov     ecx, [load_list + list.size]
        cmp     ecx, MAP - load_list
        ja      fail
        mov     esi, load_list
        mov     ebx, crc_of_list
        call    in_protected_mode
        mov     si, bad_list
        cmp     eax, [load_list + list.crc]
        jne     fail

        mov     bp, load_list + list.first
        mov     cx, [load_list + list.items]
.items: jcxz    .loaded
        push    cx
        call    load_item
        pop     cx
        add     bp, item.end
        dec     cx
        jmp     .items

.loaded:
        call    machine_values
        mov     si, starting
        call    print
        cli
        mov     ebx, finish
        jmp     in_protected_mode       ; does not come back

; ---------------------------------------------------------------- loading

; Load the item at bp.
load_item:
        mov     si, loading
        call    print
        mov     si, [bp + item.name]
        add     si, load_list
        call    print
        mov     si, newline
        call    print
        call    check_memory

        mov     cl, [shift]
        mov     eax, 1
        shl     eax, cl
        dec     eax
        mov     edx, [bp + item.lba]
        and     eax, edx                ; in a larger sector there is more to skip
        sub     edx, eax
        mov     [packet.lba], edx
        shl     eax, 9
        add     eax, [bp + item.skip]
        mov     [skip], eax
        mov     eax, [bp + item.lba + 4]
        mov     [packet.lba + 4], eax
        mov     eax, [bp + item.dest]
        mov     [target], eax
        mov     eax, [bp + item.bytes]
        mov     [left], eax
        mov     dword [crc], 0xffffffff
.next:  mov     eax, [left]
        test    eax, eax
        jz      .whole
        mov     edx, BUFFER_SECTORS * 512
        sub     edx, [skip]
        cmp     eax, edx
        jbe     .last
        mov     eax, edx
.last:  mov     [now], eax
        call    read_buffer
        mov     ebx, take_buffer
        call    in_protected_mode
        mov     eax, [now]
        sub     [left], eax
        mov     dword [skip], 0
        add     dword [packet.lba], BUFFER_SECTORS
        adc     dword [packet.lba + 4], 0
        jmp     .next
.whole: mov     eax, [crc]
        not     eax
        cmp     eax, [bp + item.crc]
        mov     si, bad_crc
        jne     fail_item
        mov     ebx, zero_rest
        jmp     in_protected_mode

; Read [skip] + [now] bytes from [packet.lba] (512-byte units) into the buffer; three tries.
read_buffer:
        mov     eax, [packet.lba]
        mov     [saved_lba], eax
        mov     edx, [packet.lba + 4]
        mov     [saved_lba + 4], edx
        mov     cl, [shift]
        shrd    eax, edx, cl            ; count in the medium's own sectors
        shr     edx, cl
        mov     [packet.lba], eax
        mov     [packet.lba + 4], edx
        mov     eax, [now]
        add     eax, [skip]
        add     cl, 9
        mov     edx, 1
        shl     edx, cl
        dec     edx
        add     eax, edx
        shr     eax, cl
        mov     [packet.count], ax
        mov     si, packet
        call    read_packet
        mov     si, read_error
        jc      fail_item
        mov     eax, [saved_lba]
        mov     [packet.lba], eax
        mov     eax, [saved_lba + 4]
        mov     [packet.lba + 4], eax
        ret

; Stop unless [dest, dest + bytes + zero) of the item at bp is usable memory.
check_memory:
        mov     eax, [bp + item.dest]
        mov     edx, [bp + item.bytes]
        add     edx, [bp + item.zero]
        jc      .bad
        add     edx, eax
        jc      .bad
        mov     [end], edx
        cmp     eax, MIB
        jae     .high
        cmp     eax, LOW_START          ; below 1 MiB: only what this code leaves alone
        jb      .bad
        cmp     edx, LOW_END
        ja      .bad
.high:  cmp     eax, [end]
        jae     .clear
        mov     di, MAP & 0xf
        push    word MAP >> 4
        pop     es
        mov     cx, [map_entries]
.find:  jcxz    .gap
        call    entry_bounds            ; ebx = start, edx = end, both below 4 GiB
        jc      .skip
        cmp     dword [es:di + 16], 1
        jne     .skip
        cmp     eax, ebx
        jb      .skip
        cmp     eax, edx
        jae     .skip
        mov     eax, edx                ; covered up to here: look for what follows
        push    word 0
        pop     es
        jmp     .high
.skip:  add     di, 24
        dec     cx
        jmp     .find
.gap:   push    word 0
        pop     es
.bad:   mov     si, no_memory
        jmp     fail_range

.clear: mov     di, MAP & 0xf           ; odd maps overlap: nothing reserved may touch the range
        push    word MAP >> 4
        pop     es
        mov     cx, [map_entries]
.other: jcxz    .good
        call    entry_bounds
        jc      .pass
        cmp     dword [es:di + 16], 1
        je      .pass
        cmp     ebx, [end]
        jae     .pass
        cmp     edx, [bp + item.dest]
        ja      .gap
.pass:  add     di, 24
        dec     cx
        jmp     .other
.good:  push    word 0
        pop     es
        ret

; The map entry at es:di as ebx = start, edx = end, cut at 4 GiB; carry when it lies above.
entry_bounds:
        cmp     dword [es:di + 4], 1    ; carry when 0: below 4 GiB
        cmc
        jc      .out
        mov     ebx, [es:di]
        mov     edx, [es:di + 12]
        test    edx, edx
        jnz     .cut
        mov     edx, ebx
        add     edx, [es:di + 8]
        jnc     .out
.cut:   mov     edx, 0xffffffff
        clc
.out:   ret

; ---------------------------------------------------------------- what only the machine knows

; The BIOS memory map (INT 15h, e820h) to MAP, empty entries left out.
read_map:
        push    word MAP >> 4
        pop     es
        mov     di, MAP & 0xf
        xor     ebx, ebx
.next:  mov     eax, 0xe820
        mov     edx, SMAP
        mov     ecx, 24
        mov     dword [es:di + 20], 1   ; for a BIOS that gives 20 bytes: valid
        int     0x15
        jc      .end
        cmp     eax, SMAP
        jne     .end
        cmp     cl, 24
        jb      .plain
        test    byte [es:di + 20], 1    ; ACPI 3: to be ignored
        jz      .skip
.plain: mov     ecx, [es:di + 8]
        or      ecx, [es:di + 12]
        jz      .skip
        add     di, 24
        inc     word [map_entries]
        cmp     word [map_entries], MAP_MAX
        jae     .end
.skip:  test    ebx, ebx
        jnz     .next
.end:   push    word 0
        pop     es
        mov     si, no_map
        cmp     word [map_entries], 0
        je      fail
        ret

; Let address line 20 through: the BIOS, then the fast gate, then the keyboard controller.
open_a20:
        call    a20_open
        jnz     .done
        mov     ax, 0x2401
        int     0x15
        call    a20_open
        jnz     .done
        in      al, 0x92
        or      al, 2
        and     al, 0xfe
        out     0x92, al
        call    a20_open
        jnz     .done
        call    .idle
        mov     al, 0xd1
        out     0x64, al
        call    .idle
        mov     al, 0xdf
        out     0x60, al
        call    .idle
        call    a20_open
        jnz     .done
        mov     si, no_a20
        jmp     fail
.done:  ret
.idle:  xor     cx, cx
.busy:  in      al, 0x64
        test    al, 2
        loopnz  .busy
        ret

; Z clear when 0000:0500 and ffff:0510 are different places.
a20_open:
        push    word 0xffff
        pop     es
        mov     cx, 32                  ; the line may take a moment
.again: mov     ax, [es:0x510]
        inc     word [0x500]
        out     0x80, al
        cmp     ax, [es:0x510]
        je      .open
        dec     cx
        jnz     .again
        xor     ax, ax
        jmp     .out
.open:  inc     ax
        or      ax, 1
.out:   push    word 0
        pop     es
        ret

; mem_lower and mem_upper (KiB) and the RSDP's address, for the patches.
machine_values:
        movzx   eax, word [map_entries]
        cmp     eax, [load_list + list.map_max]
        jbe     .fits
        mov     eax, [load_list + list.map_max]
.fits:  mov     [value_entries], eax
        int     0x12
        movzx   eax, ax
        mov     [value_lower], eax
        push    word MAP >> 4
        pop     es
        mov     dword [value_upper], MIB        ; an address so far
.grow:  mov     di, MAP & 0xf
        mov     cx, [map_entries]
.next:  jcxz    .limit
        call    entry_bounds
        jc      .skip
        cmp     dword [es:di + 16], 1
        jne     .skip
        cmp     ebx, [value_upper]
        ja      .skip
        cmp     edx, [value_upper]
        jbe     .skip
        mov     [value_upper], edx      ; memory from 1 MiB up to here: look for what follows
        jmp     .grow
.skip:  add     di, 24
        dec     cx
        jmp     .next
.limit: mov     di, MAP & 0xf           ; odd maps overlap: up to the first that is anything but memory
        mov     cx, [map_entries]
.other: jcxz    .known
        call    entry_bounds
        jc      .pass
        cmp     dword [es:di + 16], 1
        je      .pass
        cmp     edx, MIB
        jbe     .pass
        cmp     ebx, [value_upper]
        jae     .pass
        cmp     ebx, MIB
        jae     .lower
        mov     ebx, MIB
.lower: mov     [value_upper], ebx
.pass:  add     di, 24
        dec     cx
        jmp     .other
.known: sub     dword [value_upper], MIB
        shr     dword [value_upper], 10
.rsdp:  mov     ax, [0x40e]             ; first KiB of the EBDA, then the BIOS area
        mov     cx, 64
        call    find_rsdp
        jz      .done
        mov     ax, 0xe000
        mov     cx, 0x2000
        call    find_rsdp
.done:  push    word 0
        pop     es
        ret

; Look for "RSD PTR " at cx paragraphs from ax:0; Z set and value_rsdp filled when found.
find_rsdp:
        mov     es, ax
        cmp     dword [es:0], 'RSD '
        jne     .no
        cmp     dword [es:4], 'PTR '
        jne     .no
        movzx   eax, ax
        shl     eax, 4
        mov     [value_rsdp], eax
        xor     ax, ax
        ret
.no:    inc     ax
        dec     cx
        jnz     find_rsdp
        or      ax, 1
        ret

; ---------------------------------------------------------------- messages

fail_range:                             ; ... name: needs first to end
        push    word [bp + item.name]
        call    complain
        pop     si
        add     si, load_list
        call    print
        mov     si, range_from
        call    print
        mov     eax, [bp + item.dest]
        call    print_hex
        mov     si, range_to
        call    print
        mov     eax, [end]
        call    print_hex
        jmp     halt

fail_item:
        push    word [bp + item.name]
        call    complain
        pop     si
        add     si, load_list
        call    print
        jmp     halt

fail:
        call    complain
halt:
        mov     si, newline
        call    print
.halt:  hlt
        jmp     .halt

complain:
        push    si
        mov     si, error
        call    print
        pop     si
        jmp     print

; Print eax as 8 hexadecimal digits.
print_hex:
        mov     cx, 8
.digit: rol     eax, 4
        push    eax
        and     al, 15
        cmp     al, 10
        sbb     al, 0x69
        das                             ; 0..15 to '0'..'F'
        call    putc
        pop     eax
        dec     cx
        jnz     .digit
        ret

%include "console.inc"
%include "disk.inc"

; ---------------------------------------------------------------- protected mode

; Call ebx in 32-bit protected mode with flat segments and come back; eax is handed back.
in_protected_mode:
        cli
        lgdt    [gdtr]
        mov     [stack], sp
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     CODE32:.flat
        bits    32
.flat:  mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        movzx   esp, word [stack]
        movzx   ebp, bp
        call    ebx
        mov     ecx, eax
        mov     ax, DATA16
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        jmp     CODE16:.narrow
        bits    16
.narrow:
        mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        jmp     0:.real
.real:  xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     sp, [stack]
        mov     eax, ecx
        sti
        ret

        bits    32

; Four tables of 256 words: CRC-32 four bytes at a time.
make_tables:
        mov     edi, CRC_TABLES
        xor     ecx, ecx
.byte:  mov     eax, ecx
        mov     edx, 8
.bit:   shr     eax, 1
        jnc     .even
        xor     eax, 0xedb88320
.even:  dec     edx
        jnz     .bit
        mov     [edi + ecx * 4], eax
        inc     cl
        jnz     .byte
        xor     ecx, ecx
.word:  mov     eax, [edi + ecx * 4]
        mov     edx, 0
.table: movzx   ebx, al
        shr     eax, 8
        xor     eax, [edi + ebx * 4]
        lea     ebx, [edx + 256]
        add     ebx, ecx
        mov     [edi + ebx * 4], eax
        add     edx, 256
        cmp     edx, 768
        jb      .table
        inc     cl
        jnz     .word
        ret

; Run ecx bytes at esi through the CRC in eax. Clobbers ebx, ecx, edx, esi.
crc_bytes:
        push    ecx
        shr     ecx, 2
        jz      .tail
.word:  xor     eax, [esi]
        add     esi, 4
        movzx   ebx, al
        mov     edx, [CRC_TABLES + 3 * 1024 + ebx * 4]
        movzx   ebx, ah
        xor     edx, [CRC_TABLES + 2 * 1024 + ebx * 4]
        shr     eax, 16
        movzx   ebx, al
        xor     edx, [CRC_TABLES + 1 * 1024 + ebx * 4]
        movzx   ebx, ah
        xor     edx, [CRC_TABLES + ebx * 4]
        mov     eax, edx
        dec     ecx
        jnz     .word
.tail:  pop     ecx
        and     ecx, 3
        jz      .done
.byte:  movzx   ebx, al
        xor     bl, [esi]
        inc     esi
        shr     eax, 8
        xor     eax, [CRC_TABLES + ebx * 4]
        dec     ecx
        jnz     .byte
.done:  ret

; CRC of the list with its own crc field taken as zero.
crc_of_list:
        mov     edi, [load_list + list.crc]
        mov     dword [load_list + list.crc], 0
        mov     ecx, [load_list + list.size]
        mov     esi, load_list
        or      eax, -1
        call    crc_bytes
        not     eax
        mov     [load_list + list.crc], edi
        ret

; Move [now] bytes from [skip] in the buffer to [target], and take them into [crc].
take_buffer:
        mov     esi, BUFFER
        add     esi, [skip]
        mov     ecx, [now]
        mov     eax, [crc]
        call    crc_bytes
        mov     [crc], eax
        mov     esi, BUFFER
        add     esi, [skip]
        mov     edi, [target]
        mov     ecx, [now]
        mov     edx, ecx
        shr     ecx, 2
        rep     movsd
        mov     ecx, edx
        and     ecx, 3
        rep     movsb
        mov     [target], edi
        ret

; Zero what follows the item at ebp.
zero_rest:
        mov     edi, [target]
        mov     ecx, [ebp + item.zero]
        mov     edx, ecx
        xor     eax, eax
        shr     ecx, 2
        rep     stosd
        mov     ecx, edx
        and     ecx, 3
        rep     stosb
        ret

; Write the memory map, apply the patches, set the registers, go.
finish:
        cmp     dword [load_list + list.map_shape], 0
        je      .patches
        mov     esi, MAP
        mov     edi, [load_list + list.map_address]
        mov     ecx, [value_entries]
        mov     edx, [load_list + list.map_shape]
.entry: test    ecx, ecx
        jz      .mapped
        push    ecx
        push    esi
        cmp     edx, 1                  ; Multiboot 1: the entry's size goes first, not counting itself
        jne     .body
        mov     eax, 20
        stosd
.body:  mov     ecx, 5                  ; base, length, type
        rep     movsd
        test    dl, 1                   ; Multiboot 2 and PVH, 2 and 4: a reserved word follows
        jnz     .done
        xor     eax, eax
        stosd
.done:  pop     esi
        add     esi, 24
        pop     ecx
        dec     ecx
        jmp     .entry
.mapped:
        cmp     dword [load_list + list.map_shape], 2
        jne     .patches
        mov     dword [edi], 0          ; Multiboot 2: the end tag
        mov     dword [edi + 4], 8
.patches:
        mov     esi, [load_list + list.items]
        shl     esi, 5                  ; item.end is 32
        add     esi, load_list + list.first
        mov     ecx, [load_list + list.patches]
.patch: jecxz   .go
        mov     eax, [esi + patch.value]
        mov     eax, [values + eax * 4]
        imul    eax, [esi + patch.factor]
        add     eax, [esi + patch.base]
        mov     edi, [esi + patch.address]
        mov     [edi], eax
        add     esi, patch.end
        dec     ecx
        jmp     .patch
.go:    mov     eax, [load_list + list.eax]
        mov     ebx, [load_list + list.ebx]
        mov     ecx, [load_list + list.ecx]
        mov     edx, [load_list + list.edx]
        mov     esi, [load_list + list.esi]
        mov     edi, [load_list + list.edi]
        mov     ebp, [load_list + list.ebp]
        mov     esp, [load_list + list.esp]
        jmp     [load_list + list.entry]

; ---------------------------------------------------------------- data

        align   8
gdt:    dq      0
        dq      0
        dq      0x00cf9a000000ffff      ; 0x10 code, 4 GiB
        dq      0x00cf92000000ffff      ; 0x18 data, 4 GiB
        dq      0x00009a000000ffff      ; 0x20 code, 16 bit
        dq      0x000092000000ffff      ; 0x28 data, 16 bit
gdtr:   dw      $ - gdt - 1
        dd      gdt

packet: db      16, 0
.count: dw      0
        dw      0, BUFFER >> 4
.lba:   dq      0

values:
value_entries:  dd 0
value_lower:    dd 0
value_upper:    dd 0
value_rsdp:     dd 0

saved_lba:      dq 0
target:         dd 0
left:           dd 0
now:            dd 0
skip:           dd 0
crc:            dd 0
end:            dd 0
stack:          dw 0
map_entries:    dw 0
drive:          db 0
shift:          db 0

hello:          db 13, 10, "mbtool stub", 13, 10, 0
loading:        db "mbtool stub: loading ", 0
starting:       db "mbtool stub: starting", 13, 10, 0
error:          db 13, 10, "mbtool stub: error: ", 0
newline:        db 13, 10, 0
bad_list:       db "the load list is damaged", 0
bad_crc:        db "wrong checksum, the disk is damaged: ", 0
read_error:     db "cannot read the disk: ", 0
no_memory:      db "not enough memory below 4 GiB: ", 0
range_from:     db ": needs 0x", 0
range_to:       db " to 0x", 0
no_map:         db "this BIOS has no memory map (INT 15h, e820h)", 0
no_a20:         db "cannot open address line 20", 0

        times   0x1000 - ($ - $$) db 0
load_list:
