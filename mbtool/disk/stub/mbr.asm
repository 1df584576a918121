; The boot code of the master boot record: 440 bytes that load the second stage and start it. Assembled with -DCD it
; is what a BIOS starts from a CD (El Torito, no emulation): the same, but for sectors of 2048 bytes.
;
; The image builder writes where the second stage lies into the disk address packet at the end (offset 424).
; In: dl = BIOS drive. Out: the second stage at 0000:8000, entered behind its magic with dl kept and dh = the
; medium's sector size as a shift from 512 bytes.

        bits    16
        org     0x7c00

STAGE2          equ 0x8000
STAGE2_MAGIC    equ 'mbS2'

%ifdef CD
SHIFT           equ 2
%else
SHIFT           equ 0
%endif

start:
        cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, start
        sti
        cld
        jmp     0:main                  ; some BIOSes start at 07c0:0000
main:
        mov     [drive], dl
        call    serial_init

        mov     ah, 0x41                ; INT 13h extensions there?
        mov     bx, 0x55aa
        mov     dl, [drive]
        int     0x13
        mov     si, no_extensions
        jc      fail
        cmp     bx, 0xaa55
        jne     fail
        test    cl, 1                   ; packet access
        jz      fail

%ifndef CD                              ; of CDs some BIOSes say 512, and yet read 2048
        mov     word [parameters], 0x1e ; all LBAs in the image count 512 bytes
        mov     si, parameters
        mov     ah, 0x48
        mov     dl, [drive]
        int     0x13
        jc      .read                   ; it does not say: then it is an ordinary disk
        cmp     word [parameters + 0x18], 512
        mov     si, sector_size
        jne     fail
%endif

.read:  mov     si, packet
        call    read_packet
        mov     si, read_error
        jc      fail
        mov     si, no_stage2
        cmp     dword [STAGE2], STAGE2_MAGIC
        jne     fail
        mov     dl, [drive]
        mov     dh, SHIFT
        jmp     0:STAGE2 + 4

fail:
        push    si
        mov     si, prefix
        call    print
        pop     si
        call    print
.halt:  hlt
        jmp     .halt

%include "console.inc"
%include "disk.inc"

prefix:         db 13, 10, "mbtool stub: error: ", 0
no_extensions:  db "this BIOS cannot read the disk by LBA", 13, 10, 0
%ifndef CD
sector_size:    db "the disk's sectors are not 512 bytes", 13, 10, 0
%endif
read_error:     db "cannot read the disk", 13, 10, 0
no_stage2:      db "second stage damaged", 13, 10, 0

        times   424 - ($ - $$) db 0
packet: db      16, 0
        dw      0                       ; sectors: written by the image builder
        dw      STAGE2, 0
        dq      0                       ; LBA: written by the image builder

drive           equ 0x600
parameters      equ 0x610
