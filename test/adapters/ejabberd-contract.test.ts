import { startEjabberd } from '../support/ejabberd.ts';
import { adapterContract } from './contract-all.ts';

const modules = ['mod_blocking: {}', 'mod_privacy: {}'];

adapterContract('ejabberd', (options) => startEjabberd({ ...options, modules }), {
  queueDir: (server) => server.queueDir,
  async restartAdapter(server) {
    await server.api('restart_module', { host: 'localhost', module: 'mod_event_pusher' });
  },
  withoutAdapter: (server, change) => server.withoutAdapter(change),
  reload: (server) => server.reconfigure({}),
});
