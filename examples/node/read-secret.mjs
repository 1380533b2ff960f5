// Reads one secret with what Node.js brings along, and prints the names of its keys but no value.
//
//   node read-secret.mjs https://127.0.0.1:8200 BUNDLE app/prod
//
// BUNDLE is a folder with ca.pem, cert.pem and key.pem. The client certificate is the credential: no token, no login.

import { readFileSync } from 'node:fs';
import { request } from 'node:https';

const [address, bundle, path] = process.argv.slice(2);
if (!path) {
  console.error('usage: read-secret.mjs https://HOST:PORT BUNDLE PATH');
  process.exit(2);
}
const file = (name) => readFileSync(`${bundle}/${name}`);
const options = { ca: file('ca.pem'), cert: file('cert.pem'), key: file('key.pem'), minVersion: 'TLSv1.3' };

const call = request(`${address}/v1/secret/data/${path}`, options, (reply) => {
  let body = '';
  reply.on('data', (part) => (body += part));
  reply.on('end', () => {
    if (reply.statusCode !== 200) {
      console.error(`${reply.statusCode} ${body}`);
      process.exit(1);
    }
    for (const [key, value] of Object.entries(JSON.parse(body).data.data)) {
      console.log(`${key}: ${String(value).length} characters`);
    }
  });
});
call.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
call.end();
