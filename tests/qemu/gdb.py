# SPDX-License-Identifier: MIT
"""As much of GDB's remote protocol as it takes to change memory between firmware and kernel."""
import socket
import struct
import subprocess
import time

from machine import SECONDS, Run, boot_command

ENTRY = 0x80200000
A0, TREE_REGISTER, PC, PRIVILEGE = 10, 11, 32, 65  # a1 is the tree's
CONTROL = 66  # the first of 4096 control registers
SUPERVISOR = 1
COUNTERS, TIME_ONLY, ALL_COUNTERS = CONTROL + 0x306, 2, 7  # mcounteren
# What firmware sets up: the kernel may touch all memory and read the counters.
FIRMWARE = ((CONTROL + 0x3b0, 2 ** 54 - 1), (CONTROL + 0x3a0, 0x1f), (COUNTERS, ALL_COUNTERS))


class Stub:
    def __init__(self, path, seconds=SECONDS):
        until = time.monotonic() + seconds
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        self.socket.settimeout(seconds)
        self.input = self.socket.makefile("rb")
        # Registers are readable only for those who know the description.
        assert self.ask("qXfer:features:read:target.xml:0,ffb").startswith(("l", "m"))

    def send(self, packet):
        data = packet.encode()
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xff))

    def receive(self):
        byte = self.input.read(1)
        while byte != b"$":
            if not byte:
                raise ConnectionError("QEMU is gone")
            byte = self.input.read(1)
        data = b""
        byte = self.input.read(1)
        while byte != b"#":
            data += byte
            byte = self.input.read(1)
        self.input.read(2)
        self.socket.sendall(b"+")
        return data.decode()

    def ask(self, packet):
        self.send(packet)
        return self.receive()

    def run_to(self, address):
        """Lets hart 0 alone go on until it is about to execute `address`, so that it boots."""
        assert self.ask("Z1,%x,4" % address) == "OK"
        assert self.ask("vCont;c:1").startswith("T")
        assert self.ask("z1,%x,4" % address) == "OK"

    def register(self, number):
        return int.from_bytes(bytes.fromhex(self.ask("p%x" % number)), "little")

    def enter(self, hart):
        """Lets a hart that stands still since its reset enter the kernel as the first one does."""
        assert self.ask("Hg%x" % (hart + 1)) == "OK"
        for number, value in (*FIRMWARE, (A0, hart), (PC, ENTRY), (PRIVILEGE, SUPERVISOR)):
            self.set_register(number, value)

    def set_register(self, number, value):
        assert self.ask("P%x=%s" % (number, value.to_bytes(8, "little").hex())) == "OK"

    def read(self, address, length):
        data = b""
        while len(data) < length:
            part = min(1024, length - len(data))
            data += bytes.fromhex(self.ask("m%x,%x" % (address + len(data), part)))
        return data

    def write(self, address, data):
        for start in range(0, len(data), 1024):
            part = data[start:start + 1024]
            assert self.ask("M%x,%x:%s" % (address + start, len(part), part.hex())) == "OK"

    def go(self):
        """Lets the machine run and leaves it alone."""
        self.send("D")
        self.socket.close()

    def go_without(self, hart, harts):
        """Lets the machine run, but for one hart."""
        self.send("vCont" + "".join(";c:%x" % (i + 1) for i in range(harts) if i != hart))

    def stop(self):
        self.socket.sendall(b"\x03")
        assert self.receive().startswith("T")


class Machine:
    """A machine that hart 0 has brought to the kernel's first instruction; `stub` leads it on."""

    def __init__(self, folder, commands, arguments, smp=1):
        path = folder / "gdb"
        if path.exists():
            path.unlink()
        self.console = folder / "console"
        self.command = boot_command(commands, [
            *arguments, "-S", "-chardev", "socket,id=gdb,path=%s,server=on,wait=off" % path,
            "-gdb", "chardev:gdb"], smp=smp)
        with open(self.console, "wb") as console:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=console,
                                            stderr=subprocess.STDOUT)
        try:
            self.stub = Stub(path)
            self.stub.run_to(ENTRY)
        except Exception:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def end(self):
        """What happened until it ended."""
        try:
            status = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            status = "none"
        run = Run(status, self.console.read_bytes(), self.command)
        if status == "none":
            run.fail("it did not end within %d s" % SECONDS)
        return run


def boot_with_tree(folder, change, commands="hash; poweroff", arguments=(), smp=1, without=None):
    """Boots on hart 0 with the tree that `change` makes of the firmware's; hart `without` stands
    still."""
    with Machine(folder, commands, arguments, smp) as machine:
        stub = machine.stub
        address = stub.register(TREE_REGISTER)
        tree = stub.read(address, struct.unpack(">I", stub.read(address + 4, 4))[0])
        stub.write(address, change(tree))
        if without is None:
            stub.go()
        else:
            stub.go_without(without, smp)
        return machine.end()
