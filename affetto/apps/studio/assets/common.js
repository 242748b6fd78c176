// What the studio's widgets share: making elements without HTML strings (user text is never parsed), colours, time.
window.Affetto = (() => {
  "use strict";
  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "text") node.textContent = value;
      else if (typeof value === "boolean") node.toggleAttribute(name, value);
      else if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  const color = (element, name) => getComputedStyle(element).getPropertyValue(`--${name}`).trim() || "#888";
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
  function crisp(canvas, height) {
    // A canvas as many pixels wide as it is shown; gives its 2D context in CSS pixels.
    const ratio = Math.min(devicePixelRatio || 1, 2), width = canvas.parentElement.clientWidth || 300;
    canvas.style.height = `${height}px`;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return [context, width, height];
  }
  // One clock for all widgets of a page: whoever plays tells the time, whoever shows listens.
  const listeners = new Set();
  const time = { seconds: 0, tell(seconds, from) { this.seconds = seconds; for (const each of listeners) each(seconds, from); }, hear(listener) { listeners.add(listener); return () => listeners.delete(listener); } };
  // What the stage holds, for whoever draws it beside the emotion: peaks, notes, beats, words, and the warp between times.
  const hearers = new Set();
  const heard = { value: {}, put(value) { this.value = value; for (const each of hearers) each(value); }, hear(hearer) { hearers.add(hearer); return () => hearers.delete(hearer); } };
  // Gradio's renderer may rebuild an element: a widget is built once for each new root.
  function mount(api, className, build) {
    let root = null, widget = null;
    const ensure = () => {
      const found = api.element.querySelector(`.${className}`);
      if (found && found !== root) { if (widget && widget.close) widget.close(); root = found; widget = build(root); }
      if (widget) widget.update(api.props.value || {});
    };
    api.watch("value", ensure);
    ensure();
  }
  return { make, color, clamp, clock, crisp, time, heard, mount };
})();
