import { startProsody } from '../support/prosody.ts';
import { adapterContract } from './contract-all.ts';

adapterContract('prosody', (options) => startProsody({ ...options, modules: ['blocklist'] }), {
  queueDir: (server) => server.queueDir,
  async restartAdapter(server) {
    await server.shell('module', 'reload', 'event_pusher', 'localhost');
  },
  async withoutAdapter(server, change) {
    await server.stop();
    await change();
    await server.start();
  },
  reload: (server) => server.reconfigure({}),
});
