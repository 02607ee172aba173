/**
 * The network in a worker of Debian's Firefox, with `kwaainet peer`: over WebSocket, and over WebRTC, where Firefox uses no
 * loopback address.
 */
import { networkInterfaces } from "node:os";
import { after, before, describe, test } from "node:test";
import puppeteer from "puppeteer-core";
import { ourPeer } from "../interop/our-peer.mjs";
import { firefox, missing } from "./support/firefox.mjs";
import { networkedSite, prepare, talk } from "./support/networked.mjs";
import { closeSites, theSites } from "./support/world.mjs";

const outside = Object.values(networkInterfaces())
  .flat()
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address;
const alone = missing || (outside ? false : "this machine has no address but its loopback's");
if (alone) console.warn(`SKIPPED: ${alone}`);

describe("a worker of the network in Firefox", { skip: missing }, () => {
  let browser;
  let page;
  before(async () => {
    browser = await puppeteer.launch({ browser: "firefox", executablePath: firefox, headless: true });
    page = await browser.newPage();
    await page.goto(networkedSite(await theSites()));
    await prepare(page);
  });
  after(async () => {
    await browser?.close();
    await closeSites();
  });

  test("talks with kwaainet peer over WebSocket", async () => {
    const peer = await ourPeer("--listen", "/ip4/127.0.0.1/tcp/0/ws");
    try {
      await talk(page, peer.ws);
    } finally {
      await peer.stop();
    }
  });

  test("talks with kwaainet peer over WebRTC", { skip: alone }, async () => {
    const peer = await ourPeer("--listen", `/ip4/${outside}/udp/0/webrtc-direct`);
    try {
      await talk(page, peer.webrtc);
    } finally {
      await peer.stop();
    }
  });
});
