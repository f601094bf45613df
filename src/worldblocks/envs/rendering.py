"""Which OpenGL MuJoCo renders with: chosen before dm_control is imported, which fixes it."""

import ctypes
import importlib
import os
import sys

_DEVICES = 16
_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT


def choose_backend() -> None:
    """Set `MUJOCO_GL` to a backend that works on this machine, unless it is set.

    EGL (graphics card, or Mesa without one), then OSMesa. Away from Linux, and where there is a
    display, dm_control's own choice works too.

    Raises:
        RuntimeError: none of them is there; names the Debian packages.
    """
    if not os.environ.get("MUJOCO_GL"):
        if _egl_works():
            os.environ["MUJOCO_GL"] = "egl"
        elif _loads("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
            os.environ["MUJOCO_GL"] = "osmesa"
        elif sys.platform == "linux" and not os.environ.get("DISPLAY"):
            raise RuntimeError(
                "wb.envs.dmc was asked for pixels, but this machine has neither EGL nor OSMesa to "
                "render with; `apt-get install libegl1 libgl1-mesa-dri` (EGL) or `apt-get install "
                "libosmesa6` (OSMesa) adds one, pixels=False needs none"
            )
    renderer = sys.modules.get("dm_control._render")
    wanted = os.environ.get("MUJOCO_GL")
    if renderer is not None and wanted and renderer.BACKEND != wanted.lower():
        # An environment without pixels was made first, and dm_control chose without asking.
        importlib.reload(renderer)


def _loads(*names: str) -> bool:
    """Whether one of these shared libraries is there."""
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def _egl_works() -> bool:
    """Whether EGL is there and one of its devices starts; as dm_control will do it."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        find = egl.eglGetProcAddress
    except (OSError, AttributeError):
        return False
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    query, display = find(b"eglQueryDevicesEXT"), find(b"eglGetPlatformDisplayEXT")
    if not query or not display:
        return False
    pointer, count = ctypes.c_void_p, ctypes.c_int(0)
    devices = (pointer * _DEVICES)()
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(query)
    display = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(display)
    egl.eglInitialize.argtypes = [pointer] * 3
    if not query(_DEVICES, ctypes.addressof(devices), ctypes.addressof(count)):
        return False
    displays = (display(_PLATFORM_DEVICE, device, None) for device in devices[: count.value])
    return any(one and egl.eglInitialize(one, None, None) for one in displays)
