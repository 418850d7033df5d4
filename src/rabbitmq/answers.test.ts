import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { progressing } from './answers.ts';

describe('work of many messages with RabbitMQ', () => {
  const never = () => new Promise<never>(() => {});

  it('fails when it stands still', async () => {
    const options = { what: 'test', isPaused: () => false, silenceMs: 20 };
    await assert.rejects(progressing(never(), options), /did not answer within 0.02 s \(test\)/);
  });

  it('may take any time while it goes forward, and during an alarm', async () => {
    // Five times as long as it may stand still.
    const work = () => sleep(100, 'done');
    const lastAt = () => performance.now();
    assert.equal(await progressing(work(), { what: 'test', isPaused: () => false, lastAt, silenceMs: 20 }), 'done');
    assert.equal(await progressing(work(), { what: 'test', isPaused: () => true, silenceMs: 20 }), 'done');
  });

  it('may stand still after an alarm as long as before', async () => {
    let isPaused = true;
    let isOver = false;
    const options = { what: 'test', isPaused: () => isPaused, silenceMs: 20 };
    const failing = assert.rejects(progressing(never(), options)).then(() => {
      isOver = true;
    });
    // Three times the silence that is too long without an alarm.
    await sleep(60);
    assert.equal(isOver, false);
    isPaused = false;
    await failing;
  });
});
