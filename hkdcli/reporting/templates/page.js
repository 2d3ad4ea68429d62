// The filters of the gallery. A card carries the places of its values (data-f0="1 3"); the address carries
// their names, so that a link finds the same cards on a page of other records.
"use strict";
(() => {
  const filters = document.getElementById("filters");
  if (!filters) return;
  const find = document.getElementById("find");
  const cards = [...document.querySelectorAll(".case")];
  const facets = [...filters.querySelectorAll("[data-facet]")];
  const texts = new Map();

  const getOptions = (facet) => [...facet.querySelectorAll("[data-label]")];
  const getChosen = (facet) => getOptions(facet).filter((option) => option.checked || option.selected);

  function choose(facet, labels) {
    const isNamed = (option) => labels.includes(option.dataset.label);
    if (facet.tagName === "SELECT") facet.value = getOptions(facet).find(isNamed)?.value ?? "";
    else for (const option of getOptions(facet)) option.checked = isNamed(option);
  }

  function readText(card) {
    if (!texts.has(card)) texts.set(card, card.textContent.toLowerCase());
    return texts.get(card);
  }

  function showCards() {
    const needle = find.value.trim().toLowerCase();
    const wanted = facets
      .map((facet) => [facet.dataset.facet, getChosen(facet).map((option) => option.value)])
      .filter(([, places]) => places.length);
    const fits = (card) =>
      wanted.every(([number, places]) => {
        const held = card.getAttribute(`data-f${number}`).split(" ");
        return places.some((place) => held.includes(place));
      });
    for (const card of cards) card.hidden = !fits(card) || !readText(card).includes(needle);
    const shown = cards.filter((card) => !card.hidden).length;
    document.getElementById("shown").textContent = `${shown} of ${cards.length} shown`;
    document.getElementById("none").hidden = shown > 0;
    document.getElementById("reset").disabled = !wanted.length && !needle;
  }

  function writeAddress() {
    const state = new URLSearchParams();
    for (const facet of facets)
      for (const option of getChosen(facet)) state.append(facet.dataset.name, option.dataset.label);
    if (find.value.trim()) state.append("find", find.value.trim());
    const [page] = location.href.split("#");
    history.replaceState(null, "", state.size ? `${page}#${state}` : page);
  }

  function readAddress() {
    const hash = location.hash.slice(1);
    if (hash && !hash.includes("=")) return; // a link to a section
    const state = new URLSearchParams(hash);
    for (const facet of facets) choose(facet, state.getAll(facet.dataset.name));
    find.value = state.get("find") ?? "";
    if (hash) document.getElementById("gallery").scrollIntoView();
  }

  function update() {
    showCards();
    writeAddress();
  }

  function reset() {
    for (const facet of facets) choose(facet, []);
    find.value = "";
    update();
    find.focus();
  }

  function follow() {
    readAddress();
    showCards();
  }

  filters.addEventListener("change", update);
  find.addEventListener("input", update);
  document.getElementById("reset").addEventListener("click", reset);
  window.addEventListener("hashchange", follow);
  filters.hidden = false;
  follow();
})();
