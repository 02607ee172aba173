/** Debian's Firefox, where it is installed. */
import { existsSync } from "node:fs";

export const firefox = [process.env.FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"].find(
  (path) => path && existsSync(path),
);
export const missing = firefox
  ? false
  : "no Firefox: install the package `firefox-esr`, or name one in FIREFOX";
