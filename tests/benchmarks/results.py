"""How quick a scatter of ten thousand results is, in a real browser: `python tests/benchmarks/results.py` prints it.

It needs JupyterLab, Playwright and Chromium, which draws without a graphics card here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from browser import lab
from filled import fill

import matterstack as ms

SIZE = 10_000
MAKE = f"""
import matterstack as ms
run = ms.initialize_run("bench", ms.Workflow([ms.Task(f"t{{n}}", "true") for n in range({SIZE})]))
"""
SHOW = """
import time
begun = time.perf_counter()
view = run.scatter("x", "y", colour="z", best={"x": "max", "y": "max"})
print(f"{time.perf_counter() - begun:.2f} s until the kernel has read and sorted them")
"""
#: Move, zoom and point, a step a frame; frames a second, and the longest of them in milliseconds.
FRAMES = """async () => {
  const stage = document.querySelector('.ms-plot'), area = stage.getBoundingClientRect();
  stage.setPointerCapture = () => {};
  const at = (x, y) => ({ clientX: area.left + x, clientY: area.top + y, bubbles: true, cancelable: true });
  const point = (type, x, y, shiftKey) => stage.dispatchEvent(new PointerEvent(type, { ...at(x, y), shiftKey }));
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const run = async (step) => {
    const times = [];
    for (let i = 0, last = await frame(), now; i < 100; i++, last = now) {
      step(i);
      now = await frame();
      times.push(now - last);
    }
    return [1000 * times.length / times.reduce((a, b) => a + b), Math.max(...times)];
  };
  point('pointerdown', 300, 200, true);
  const pan = await run((i) => point('pointermove', 300 + i, 200 + i / 2, true));
  point('pointerup', 400, 250, true);
  const wheel = (i) => new WheelEvent('wheel', { ...at(400, 200), ctrlKey: true, deltaY: i < 50 ? -20 : 20 });
  const zoom = await run((i) => stage.dispatchEvent(wheel(i)));
  const hover = await run((i) => point('pointermove', 200 + 5 * i, 120 + i, false));
  return { pan, zoom, hover, draw: document.querySelector('.ms-scatter').dataset.drawMs };
}"""


def main() -> None:
    """Print how quick it is."""
    with tempfile.TemporaryDirectory() as folder, lab(Path(folder)) as jupyter:
        notebook = jupyter.open(jupyter.write("bench.ipynb", MAKE, "input()", SHOW, "view"))
        page = notebook.page
        notebook.run_all()
        page.wait_for_selector(".jp-Stdin-input")
        (home,) = (Path(folder) / "workspaces/bench/runs").iterdir()
        values = ({"x": n % 997, "y": (n * n) % 1009, "z": n} for n in range(SIZE))
        fill(ms.open_run(home), values)
        page.locator(".jp-Stdin-input").press("Enter")
        page.wait_for_selector(".ms-scatter .ms-best table")
        page.locator(".ms-scatter").scroll_into_view_if_needed()
        print(page.locator(".jp-OutputArea-output pre:has-text('until')").inner_text())
        found = page.evaluate(FRAMES)
        for what in ("pan", "zoom", "hover"):
            print(f"{what}: {found[what][0]:.0f} frames/s, the longest {found[what][1]:.0f} ms")
        print(f"{found['draw']} ms to draw them")
        notebook.close()


if __name__ == "__main__":
    main()
