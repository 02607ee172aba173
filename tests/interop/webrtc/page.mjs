/** What runs in a page. */
import { exchange } from "./exchange.mjs";

/**
 * The second version of WebRTC Direct (libp2p/specs#715), which js-libp2p does not speak yet, around the connection that it
 * makes: the offer stays as the browser made it, and the answer's credentials carry the browser's own password.
 */
class Unmunged extends RTCPeerConnection {
  setLocalDescription() {
    return super.setLocalDescription();
  }

  setRemoteDescription({ type, sdp }) {
    const [, password] = /^a=ice-pwd:(\S+)/m.exec(this.localDescription.sdp);
    return super.setRemoteDescription({
      type,
      sdp: sdp.replace(/^a=ice-(ufrag|pwd):.*$/gm, `a=ice-$1:libp2p+webrtc+v2/${password}`),
    });
  }
}

globalThis.exchange = (address, version) => {
  if (version === 2) globalThis.RTCPeerConnection = Unmunged;
  return exchange(address);
};
