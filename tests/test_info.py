"""`python -m focus_kernels.info` on machines that this one is not; what it says of this one is in test_build.py."""

from types import SimpleNamespace

import pytest

from focus_kernels import _backends, _extension, info

BUILT = SimpleNamespace(cuda_archs="80-real 90-real", cpu_isa=lambda: "avx2", threads_engine="OpenMP")


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi with this body first in PATH."""

    def put(body):
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


def test_the_report_is_what_the_command_prints(capsys):
    assert info.main() == 0
    assert capsys.readouterr().out == info.report() + "\n"


def test_gpus_come_from_nvidia_smi(nvidia_smi):
    nvidia_smi("echo 'Some GPU, 570.12, 9.0'; echo 'Other, Ltd. GPU, 1.2.3, 12.1'")
    assert info._gpus() == [("Some GPU", "570.12", (9, 0)), ("Other, Ltd. GPU", "1.2.3", (12, 1))]
    nvidia_smi("echo 'NVIDIA-SMI has failed'; exit 9")
    assert info._gpus() == []
    nvidia_smi("echo no devices were found")
    assert info._gpus() == []


def test_a_machine_without_nvidia_smi_has_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert info._gpus() == []


def test_a_gpu_without_kernels_is_pointed_out(nvidia_smi, monkeypatch):
    monkeypatch.setattr(info, "_C", BUILT)
    nvidia_smi("echo 'New, 1.0, 9.0'; echo 'Old, 1.0, 7.5'")
    new, old = (line for line in info._machine() if line.startswith("GPU "))
    assert new.endswith("New, compute capability 9.0, driver 1.0")
    assert "Old, compute capability 7.5" in old
    assert "no kernel was built" in old
    assert "docs/install.md" in old


def test_the_build_is_described(monkeypatch):
    monkeypatch.setattr(info, "_C", BUILT)
    monkeypatch.setenv("FOCUS_CPU_ISA", "avx2")
    cuda, cpu, threads = info._extension()
    assert cuda.split()[2:] == ["80-real", "90-real"]
    assert cpu.endswith("avx2 (FOCUS_CPU_ISA=avx2)")
    assert threads.endswith("by OpenMP")


def test_a_missing_build_is_said_with_its_reason(monkeypatch):
    monkeypatch.setattr(info, "_C", None)
    monkeypatch.setattr(_extension, "_C", None)
    monkeypatch.setattr(_extension, "_MISSING", "no such file", raising=False)
    assert info._extension() == ["not usable: focus_kernels._C is not built (no such file)"]
    assert "native  cpu   no: focus_kernels._C is not built (no such file)" in info.report()


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr(info, "PACKAGES", ("torch", "no-such-package"))
    assert info._versions()[-1].split() == ["no-such-package", "not", "installed"]


def test_torch_with_a_gpu(monkeypatch):
    monkeypatch.setattr(info.torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(info.torch.cuda, "device_count", lambda: 1)
    assert info._why_no_cuda() == ""
    monkeypatch.setattr(info.torch.cuda, "device_count", lambda: 0)
    assert info._why_no_cuda() == "torch sees no GPU"


def test_the_forced_backend_is_said(monkeypatch):
    monkeypatch.setattr(_backends, "FORCED", "ref")
    first, *lines = info._backend_lines()
    assert first.startswith("FOCUS_BACKEND=ref;")
    assert any(line.split()[:3] == ["rasterize", "ref", "cpu"] and line.endswith("yes") for line in lines)
    assert all("FOCUS_BACKEND=ref" in line for line in lines if " native " in line)


def test_a_cpu_without_a_name_in_proc(monkeypatch):
    class Nowhere:
        def __init__(self, path):
            pass

        def read_text(self, encoding):
            raise FileNotFoundError

    monkeypatch.setattr(info, "Path", Nowhere)
    monkeypatch.setattr(info.platform, "processor", lambda: "")
    monkeypatch.setattr(info.platform, "machine", lambda: "arm64")
    assert info._cpu_name() == "arm64"
