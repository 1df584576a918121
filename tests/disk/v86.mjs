// Boot a disk in v86, a PC emulated in WebAssembly: node v86.mjs PACKAGE BIOS VGA-BIOS DISK UNTIL SECONDS
// What the first serial port says goes to standard output; exit status 0 once it has said UNTIL, else 1.
// A DISK whose name ends in .iso is a CD.

import fs from "node:fs";
import { pathToFileURL } from "node:url";

const [home, bios, vga, disk, until, seconds] = process.argv.slice(2);
const { V86 } = await import(pathToFileURL(`${home}/build/libv86.mjs`));

function file(path) {
    const bytes = fs.readFileSync(path);
    return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) };
}

function end(status) {
    fs.writeSync(1, said);
    process.exit(status);
}

let said = "";
const machine = new V86({
    wasm_path: `${home}/build/v86.wasm`,
    bios: file(bios),
    vga_bios: file(vga),
    ...(disk.endsWith(".iso") ? { cdrom: file(disk), boot_order: 0x123 } : { hda: file(disk) }),
    memory_size: 64 << 20,
    autostart: true,
    disable_speaker: true,
});
machine.add_listener("serial0-output-byte", byte => {
    said += String.fromCharCode(byte);
    if (byte === 10 && said.includes(until)) {
        end(0);
    }
});
setTimeout(end, seconds * 1000, 1);
