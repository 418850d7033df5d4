/** The thread that keeps the record. */
import { parentPort, workerData } from 'node:worker_threads';
import { createKeeper } from './keeper.ts';
import type { KeeperOptions, ToKeeper } from './messages.ts';

const port = parentPort;
if (port) {
  const keeper = createKeeper(workerData as KeeperOptions, (message) =>
    port.postMessage(message, message.kind === 'done' ? [message.memory] : []),
  );
  port.on('message', (message: ToKeeper) => {
    keeper.take(message);
    // Nothing else keeps the thread alive.
    if (message.kind === 'close') port.close();
  });
}
