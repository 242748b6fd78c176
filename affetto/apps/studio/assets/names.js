// Names of emotions to choose from.
window.AffettoNames = (() => {
  "use strict";
  const { make, mount } = Affetto;
  function build(root, api) {
    const list = make("div", { class: "tl-chips", role: "group", "aria-label": "Named emotions" });
    root.append(list);
    return {
      update(value) {
        if (list.children.length) return;
        list.append(...(value.names || []).map((name) => make("button", { type: "button", text: name, onclick: () => { api.props.value = { ...api.props.value, picked: name, at: Date.now() }; api.trigger("input"); } })));
      },
    };
  }
  return { mount: (api) => mount(api, "affetto-names", (root) => build(root, api)) };
})();
