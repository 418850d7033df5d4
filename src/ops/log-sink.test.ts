import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { until } from '../../test/support/process.ts';
import { createLogSink } from './log-sink.ts';

const fault = (code: string) => Object.assign(new Error(`${code}: write`), { code });

/** A sink on a device that can be made to fail; `room` is how many bytes it takes before it does. */
function scene({ probeMs = 60_000 } = {}) {
  const device = { text: '', fails: undefined as string | undefined, room: Number.POSITIVE_INFINITY };
  const told: string[] = [];
  let deaf = false;
  const sink = createLogSink({
    fd: -1,
    announce: (problem, lost) => sink.write(`lost ${lost}: ${problem}\n`),
    writeTo: (buffer) => {
      if (device.fails !== undefined && device.room === 0) throw fault(device.fails);
      const taken = buffer.subarray(0, device.fails === undefined ? buffer.length : device.room);
      device.room -= device.fails === undefined ? 0 : taken.length;
      device.text += Buffer.from(taken).toString();
      return taken.length;
    },
    tell: (text) => {
      if (deaf) throw fault('ENOSPC');
      told.push(text);
    },
    probeMs,
  });
  return {
    device,
    told,
    sink,
    fail(code: string, room = 0) {
      Object.assign(device, { fails: code, room });
    },
    mend() {
      device.fails = undefined;
    },
    deafen(value: boolean) {
      deaf = value;
    },
  };
}

describe('where the log goes', () => {
  it('counts lost lines, reports them once on standard error, and in the log once it is writable', () => {
    const { sink, device, told, fail, mend } = scene();
    sink.write('one\n');
    fail('ENOSPC');
    for (const line of ['two\n', 'three\n']) sink.write(line);
    assert.deepEqual(sink.health(), { fault: 'ENOSPC: write', lost: 2 });
    assert.deepEqual(told, ["xmpp-event-pusher: the log can't be written: ENOSPC: write\n"]);
    mend();
    sink.write('four\n');
    sink.write('five\n');
    assert.equal(device.text, 'one\nfour\nlost 2: ENOSPC: write\nfive\n');
    assert.deepEqual(sink.health(), { fault: undefined, lost: 2 });
  });

  it('reports how many lines each failure lost, and the total', () => {
    const { sink, device, fail, mend } = scene();
    for (const code of ['ENOSPC', 'EIO']) {
      fail(code);
      sink.write('lost\n');
      mend();
      sink.write('kept\n');
    }
    assert.equal(device.text, 'kept\nlost 1: ENOSPC: write\nkept\nlost 1: EIO: write\n');
    assert.equal(sink.health().lost, 2);
  });

  it('reports on standard error as soon as that is writable', () => {
    const { sink, told, fail, deafen } = scene();
    deafen(true);
    fail('ENOSPC');
    sink.write('one\n');
    assert.deepEqual(told, []);
    deafen(false);
    sink.write('two\n');
    sink.write('three\n');
    assert.equal(told.length, 1);
  });

  it('begins a new line after a truncated one', () => {
    const { sink, device, fail, mend } = scene();
    fail('ENOSPC', 3);
    sink.write('cut off\n');
    mend();
    sink.write('whole\n');
    assert.equal(device.text, 'cut\nwhole\nlost 1: ENOSPC: write\n');
  });

  it('notices by itself that the log is writable again', async () => {
    const { sink, device, fail, mend } = scene({ probeMs: 1 });
    fail('ENOSPC');
    sink.write('one\n');
    mend();
    await until('the log to be well', () => sink.health().fault === undefined);
    assert.equal(device.text, 'lost 1: ENOSPC: write\n');
  });

  it('waits briefly for a slow reader, and no longer for one that does not read', () => {
    const { sink, device, fail, mend } = scene();
    fail('EAGAIN', 2);
    sink.write('one\n');
    assert.deepEqual(sink.health(), { fault: 'its reader does not read (EAGAIN)', lost: 1 });
    mend();
    sink.write('two\n');
    assert.match(device.text, /^on\ntwo\n/);
  });
});
