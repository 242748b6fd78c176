// The first start: what this machine can do, in one line, before anybody has to look for it.
window.AffettoWelcome = (() => {
  "use strict";
  const { make, mount } = Affetto;
  function build(root, api) {
    let asked = false;
    const done = () => { api.props.value = { first: false }; api.server.welcomed().catch(() => null); root.replaceChildren(); };
    const card = (state, title, text, ...more) => root.replaceChildren(make("section", { class: "wl", "data-state": state, role: "status", "aria-label": "First start" },
      make("i", { "aria-hidden": "true" }), make("div", {}, make("strong", { text: title }), make("span", { text })), ...more, make("button", { type: "button", text: "Close", onclick: done })));
    async function ask() {
      card("busy", "First start: examining this machine", "Models, media, graphics card. You can begin already.");
      const found = await api.server.machine().catch(() => null);
      if (!root.firstChild) return;
      if (!found) { card("bad", "This machine could not be examined", "Run `affetto doctor` in a terminal to see why."); return; }
      const details = make("button", { type: "button", text: "See all", onclick: () => [...document.querySelectorAll("button[role=tab]")].find((tab) => tab.textContent.trim() === "Models & Health")?.click() });
      card(found.ready ? "ok" : "bad", found.title, found.text, details);
    }
    return { update(value) { if (value.first && !asked) { asked = true; setTimeout(ask, 1500); } } };
  }
  return { mount: (api) => mount(api, "affetto-welcome", (root) => build(root, api)) };
})();
