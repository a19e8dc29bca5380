"use strict";

// Before anything is drawn: the colours that the reader chose last, in any report; none are chosen where a browser
// keeps nothing for pages.
const THEME = "harness-theme";
const root = document.documentElement;

function choose(theme) {
  root.dataset.theme = theme;
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    // for this page alone
  }
}

try {
  root.dataset.theme = localStorage.getItem(THEME) ?? "";
} catch {
  root.dataset.theme = "";
}
