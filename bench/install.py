"""What the bench needs and this machine lacks: installed where somebody may, else told.

nginx is unpacked beside the bench, not installed: the package would start a server on the machine.
"""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench import allocators, programs
from bench.allocators import ROOT


def install():
    if not shutil.which("apt-get"):
        return
    if os.geteuid() == 0 or shutil.which("sudo"):
        subprocess.run([ROOT / "scripts/setup", "--bench"], stdout=subprocess.DEVNULL)
    if not programs.nginx():
        unpack("nginx", programs.UNPACKED)


def unpack(package, folder):
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "-qq", "download", package], cwd=scratch, capture_output=True)
        for file in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, folder], capture_output=True)


def lacking():
    """Lines about what will not be measured."""
    return [f"{name}: package {package} is not installed" for name, package in allocators.PACKAGES.items()
            if not allocators.available(name)]
