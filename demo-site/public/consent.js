/** All that a site can do about consent: ask, and be told the outcome. */
const node = window.kwaainet;
const now = document.getElementById("now");
const log = document.getElementById("log");

const words = { runAi: "run AI for the visitor", keepModel: "keep the model on the device" };
const show = (name, { purposes }) => {
  now.textContent =
    purposes.length === 0 ? "nothing" : purposes.map((purpose) => words[purpose] ?? purpose).join(", ");
  const item = document.createElement("li");
  item.textContent = `${name}: ${JSON.stringify(purposes)}`;
  log.prepend(item);
};
node.on("ready", (status) => show("ready", status));
node.on("consent", (status) => show("consent", status));
document.getElementById("choices").addEventListener("click", () => node.consent.ask());
