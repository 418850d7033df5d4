/** Any XMPP client: logs in as alice@localhost and stays for a while. Usage: node client.ts SERVER */
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../support/xmpp.ts';

const name = process.argv[2] === 'ejabberd' ? 'ejabberd' : 'prosody';
const server = { name, host: 'localhost', c2sPort: 5222, boshUrl: '', webSocketUrl: '' } as const;
await connect({ ...server, register: async () => undefined }, 'alice', 'phone');
process.stdout.write('logged in\n');
await sleep(60_000);
process.exit(0);
