; A boot sector that makes the machine's BIOS odd, and then starts the disk's own boot code.
;
; It moves to 0x90000, puts itself before INT 10h, 13h and 15h, and loads the boot code that was saved at SAVED. What it
; does there is said by the bytes at `settings`, which tests/disk/odd_bios.py writes, with the memory map at TABLE.

        bits    16
        org     0

HOME         equ 0x9000
SAVED           equ 2046                ; LBA of the disk's own first sector
TABLE           equ 2030                ; LBA of the memory map
TABLE_SECTORS   equ 16
SMAP            equ 0x534d4150

        jmp     0x7c0:start
start:  cli
        xor     ax, ax
        mov     ss, ax
        mov     sp, 0x7c00
        mov     ds, ax
        mov     ax, HOME
        mov     es, ax
        mov     si, 0x7c00
        xor     di, di
        mov     cx, 256
        cld
        rep     movsw
        jmp     HOME:moved

moved:  sti
        mov     ds, ax
        mov     si, table_packet
        mov     ah, 0x42
        int     0x13
        jc      $
        mov     si, saved_packet
        mov     ah, 0x42
        int     0x13
        jc      $

        push    dx
        xor     dx, dx
        mov     es, dx
        cli
%macro  hook 1
        mov     eax, [es:0x%1 * 4]
        mov     [old%1], eax
        mov     word [es:0x%1 * 4], int%1
        mov     word [es:0x%1 * 4 + 2], cs
%endmacro
        hook    10
        hook    13
        hook    15
        mov     ax, [lower]             ; what INT 12h says
        test    ax, ax
        jz      .go
        mov     [es:0x413], ax
.go:    sti
        pop     dx
        mov     ds, dx
        jmp     0:0x7c00

; Return from an interrupt with carry set or clear.
failed: push    bp
        mov     bp, sp
        or      byte [bp + 6], 1
        pop     bp
        iret
worked: push    bp
        mov     bp, sp
        and     byte [bp + 6], 0xfe
        pop     bp
        iret

; Some BIOSes change what they should keep.
int10:  pushf
        call    far [cs:old10]
        cmp     byte [cs:rude], 0
        je      .out
        mov     ebx, 0xbadbad01
        mov     ecx, 0xbadbad02
        mov     edx, 0xbadbad03
        mov     esi, 0xbadbad04
        mov     edi, 0xbadbad05
        mov     ebp, 0xbadbad06
.out:   iret

int13:  cmp     ah, 0x41
        je      .extensions
        cmp     ah, 0x42
        je      .read
        cmp     ah, 0x48
        je      .parameters
.chain: jmp     far [cs:old13]
.extensions:
        cmp     byte [cs:no_extensions], 0
        je      .chain
        mov     ah, 1
        jmp     failed
.read:  cmp     word [cs:failures], 0
        je      .rude
        dec     word [cs:failures]
        mov     word [si + 2], 0        ; sectors that were read
        mov     ah, 4
        jmp     failed
.rude:  cmp     byte [cs:rude], 0
        je      .chain
        pushf
        call    far [cs:old13]
        jc      failed
        mov     ecx, 0xbadbad02
        mov     edi, 0xbadbad05
        jmp     worked
.parameters:
        pushf
        call    far [cs:old13]
        jc      failed
        push    ax
        mov     ax, [cs:sector]
        test    ax, ax
        jz      .kept
        mov     [si + 0x18], ax
.kept:  pop     ax
        jmp     worked

int15:  cmp     ax, 0xe820
        jne     .chain
        cmp     word [cs:entries], 0
        je      .chain
        cmp     bx, [cs:entries]
        jae     failed
        push    ds
        push    si
        push    di
        push    cs
        pop     ds
        imul    si, bx, 24
        add     si, 512
        movzx   ecx, word [answer]
        push    cx
        rep     movsb
        pop     cx
        pop     di
        pop     si
        pop     ds
        inc     bx
        mov     eax, SMAP
        cmp     bx, [cs:entries]
        jb      worked
        cmp     byte [cs:carry_ends], 0
        jne     worked
        xor     ebx, ebx
        jmp     worked
.chain: jmp     far [cs:old15]

        times   432 - ($ - $$) db 0
table_packet:   db 16, 0
                dw TABLE_SECTORS, 512, HOME
                dq TABLE
saved_packet:   db 16, 0
                dw 1, 0x7c00, 0
                dq SAVED
old10:          dd 0
old13:          dd 0
old15:          dd 0

        times   484 - ($ - $$) db 0
settings:
entries:        dw 0                    ; of the memory map; 0: the machine's own
answer:         dw 24                   ; bytes of an entry that are written
lower:          dw 0                    ; KiB below 1 MiB; 0: as they are
sector:         dw 0                    ; bytes of a sector that are claimed; 0: as they are
failures:       dw 0                    ; reads that fail
no_extensions:  db 0
carry_ends:     db 0                    ; the map's end is told by carry at the next call, not by ebx = 0
rude:           db 0

        times   510 - ($ - $$) db 0
        dw      0xaa55
