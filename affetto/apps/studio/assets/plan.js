// What a batch would do, before it does it: how much, how long, and every error with its line.
window.AffettoPlan = (() => {
  "use strict";
  const { make, mount } = Affetto;
  const span = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`);
  const fact = (number, text) => make("div", { class: "pl-fact" }, make("strong", { text: number }), make("span", { text }));
  const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6))} MB`);

  function build(root) {
    return {
      update(value) {
        if (!value.manifest) {
          root.replaceChildren(make("div", { class: "empty pl-empty" }, make("strong", { text: "Many jobs from one file" }),
            make("span", { text: "Give a manifest: what it would do, how long that takes and every error with its line stand here before anything runs." }), make("pre", { text: value.example || "", "aria-label": "An example of a manifest" })));
          return;
        }
        const errors = value.errors || [];
        root.replaceChildren(make("section", { class: "card", "aria-label": "Plan" }, make("h3", {}, make("span", { text: value.manifest })),
          make("div", { class: "pl-facts" }, fact(String(value.jobs), value.jobs === 1 ? "job" : "jobs"), fact(span(value.media), "of media"), fact(`about ${span(value.seconds)}`, "on this machine"), fact(`about ${size(value.bytes)}`, "on disk")),
          errors.length ? make("ul", { class: "pl-errors", "aria-label": "Errors" }, ...errors.map((error) => make("li", {}, make("b", { text: error.line ? `line ${error.line}` : "file" }), make("span", { text: error.message })))) : make("p", { class: "pl-sound", text: "Every line is sound." })));
      },
    };
  }
  return { mount: (api) => mount(api, "affetto-plan", (root) => build(root)) };
})();
