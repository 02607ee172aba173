importScripts("/kwaainet/kwaainet-sw.js");
