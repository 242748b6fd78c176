// What this machine can do: each part with its state, what was found, and how to mend what is missing.
window.AffettoHealth = (() => {
  "use strict";
  const { make, mount } = Affetto;
  const WORDS = { ok: "here", absent: "not here", warning: "look here", bad: "broken" };
  const TITLES = { system: "Machine", torch: "Computing", attention: "Attention kernels", media: "Media", renderer: "Drawing", optional: "Optional packages", weights: "Models and their licences", "full tier": "Full tier" };

  function line(check) {
    return make("li", { "data-state": check.status },
      make("i", { "aria-hidden": "true" }),
      make("span", { class: "hl-name", text: check.name }),
      make("span", { class: "hl-state", text: WORDS[check.status] || check.status }),
      make("span", { class: "hl-found", text: check.detail }),
      check.mend ? make("code", { class: "hl-mend", text: check.mend }) : null);
  }
  function build(root) {
    return {
      update(value) {
        const checks = value.checks || [];
        if (!checks.length) { root.replaceChildren(make("div", { class: "empty", role: "status" }, make("strong", { text: "Examining this machine" }), make("span", { text: "This takes some seconds, once." }))); return; }
        const parts = new Map();
        for (const check of checks) parts.set(check.section, [...(parts.get(check.section) || []), check]);
        const broken = checks.filter((check) => !["ok", "absent"].includes(check.status)).length;
        const head = make("p", { class: "hl-sum", "data-state": broken ? "bad" : "ok", role: "status", text: broken ? `${broken} of ${checks.length} parts need a look.` : "Ready: everything the studio needs is here. What is not here is optional." });
        root.replaceChildren(head, make("div", { class: "hl-parts" }, ...[...parts].map(([name, list]) =>
          make("section", { class: `card${list.length > 8 ? " wide" : ""}` },
            make("h3", {}, make("span", { text: TITLES[name] || name }), make("small", { text: `${list.filter((check) => check.status === "ok").length} of ${list.length} here` })),
            make("ul", {}, ...list.map(line))))));
      },
    };
  }
  return { mount: (api) => mount(api, "affetto-health", (root) => build(root)) };
})();
