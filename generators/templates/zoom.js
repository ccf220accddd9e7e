// Zoom of the schedules: only the view of each chart is stretched, and the numbers of its axis are written anew.
document.documentElement.classList.add("live");
for (const figure of document.querySelectorAll("figure.gantt")) {
  const chart = figure.querySelector("svg"), view = chart.querySelector("svg.view");
  const ticks = [...chart.querySelectorAll("text.tick")];
  const numbers = ticks.map((tick) => Number(tick.textContent.replaceAll(",", "")));
  const [, , wide, high] = view.getAttribute("viewBox").split(" ").map(Number);
  const left = Number(view.getAttribute("x"));
  const places = ticks.map((tick) => Number(tick.getAttribute("x")) - left);
  const scale = ticks.length > 1 ? numbers[1] / places[1] : 1; // cycles per unit of the drawing
  const lines = [...view.querySelectorAll("line.grid")].slice(0, ticks.length);
  let start = 0, span = wide;
  const show = () => {
    start = Math.min(Math.max(start, 0), wide - span);
    view.setAttribute("viewBox", `${start} 0 ${span} ${high}`);
    const step = places.length > 1 ? places[1] / 2 ** Math.floor(Math.log2(wide / span)) : wide;
    const first = Math.ceil(start / step - 1e-9);
    ticks.forEach((tick, k) => {
      const at = (first + k) * step, inside = at <= start + span + 1e-6;
      tick.setAttribute("x", left + (at - start) / span * wide);
      tick.textContent = inside ? Math.round(at * scale).toLocaleString("en") : "";
      lines[k].setAttribute("x1", at);
      lines[k].setAttribute("x2", at);
    });
  };
  const place = (event) => {
    const box = chart.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width * chart.viewBox.baseVal.width - left) / wide;
  };
  chart.addEventListener("wheel", (event) => {
    event.preventDefault();
    const part = Math.min(Math.max(place(event), 0), 1), at = start + part * span;
    span = Math.min(wide, Math.max(wide / 4096, span * 1.25 ** Math.sign(event.deltaY)));
    start = at - part * span;
    show();
  }, { passive: false });
  let held = null;
  chart.addEventListener("pointerdown", (event) => {
    held = start + place(event) * span;
    chart.setPointerCapture(event.pointerId);
  });
  chart.addEventListener("pointermove", (event) => {
    if (held !== null) { start = held - place(event) * span; show(); }
  });
  chart.addEventListener("pointerup", () => { held = null; });
  chart.addEventListener("dblclick", () => { start = 0; span = wide; show(); });
}
