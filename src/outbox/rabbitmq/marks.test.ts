import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Marks } from './marks.ts';
import { BASELINE, NUMBERED, UNNUMBERED } from './parcel.ts';

describe('the numbers seen in a partition', () => {
  it('repeat where one is not above the last one of its epoch', () => {
    const marks = new Marks();
    const seen = ['s/x/1', 's/x/2', 's/y/1', 's/x/2', 's/x/3', 's/y/1', 't/x/1', 's/x/10', 's/x/9'].map((id) =>
      marks.isRepetition(id, NUMBERED),
    );
    assert.deepEqual(seen, [false, false, false, true, false, true, false, false, true]);
  });

  it('count up again after a baseline, and leave replays and ids without a number alone', () => {
    const marks = new Marks();
    assert.equal(marks.isRepetition('s/x/7', NUMBERED), false);
    assert.equal(marks.isRepetition('s/x/3', UNNUMBERED), false);
    assert.equal(marks.isRepetition('s/x/3', BASELINE), false);
    assert.equal(marks.isRepetition('s/x/4', NUMBERED), false);
    for (const id of ['s/x/04', 's/x/4a', 's/x/', 's/x/0', 's/x/99999999999999999', '7c1b'])
      for (let time = 0; time < 2; time++) assert.equal(marks.isRepetition(id, NUMBERED), false, id);
    assert.equal(marks.isRepetition('s/x/4', NUMBERED), true);
  });

  it('tell a source whose name begins like another one apart', () => {
    const marks = new Marks();
    assert.equal(marks.isRepetition('s/x/5', NUMBERED), false);
    assert.equal(marks.isRepetition('s/x/5/1', NUMBERED), false);
    assert.equal(marks.isRepetition('s/x/5/1', NUMBERED), true);
    assert.equal(marks.isRepetition('s/x/6', NUMBERED), false);
  });

  it('may come again once they are forgotten', () => {
    const marks = new Marks();
    for (const id of ['s/x/1', 's/x/2', 's/x/3']) marks.isRepetition(id, NUMBERED);
    for (const id of ['s/x/2', 's/x/3', 'unknown/x/1', '7c1b']) marks.forget(id);
    assert.equal(marks.isRepetition('s/x/1', NUMBERED), true);
    assert.equal(marks.isRepetition('s/x/2', NUMBERED), false);
  });

  it('are those of the last ten thousand epochs', () => {
    const marks = new Marks();
    for (let epoch = 0; epoch <= 10_000; epoch++) marks.isRepetition(`s/${epoch}/1`, NUMBERED);
    assert.equal(marks.isRepetition('s/1/1', NUMBERED), true);
    assert.equal(marks.isRepetition('s/0/1', NUMBERED), false);
  });
});
