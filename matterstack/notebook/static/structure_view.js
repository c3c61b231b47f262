// @ts-check
// The widget of a structure: a scene, which asks Python for all atoms where one wants them.

/** @param {{ model: any, el: HTMLElement }} arguments_ */
function renderStructure({ model, el }) {
  const note = make("div", { class: "ms-view ms-note", role: "status" }, el);
  /** @type {ReturnType<typeof structureScene> | null} */
  let scene = null;
  function drawn() {
    const data = model.get("data");
    note.textContent = model.get("note");
    note.hidden = !note.textContent;
    if (!data.counts) return;
    if (scene) scene.show(data);
    else scene = structureScene(el, data, () => send(model, { all: true }));
  }
  const heard = ["change:data", "change:note"];
  for (const event of heard) model.on(event, drawn);
  drawn();
  return () => {
    for (const event of heard) model.off(event, drawn);
    if (scene) scene.stop();
  };
}

export default { render: renderStructure };
