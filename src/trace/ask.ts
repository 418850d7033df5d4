/** Requests to the thread, and their answers. */
import type { FromKeeper, ToKeeper } from './messages.ts';

/** Limit of concurrent requests: each searches a file. */
const MOST_ASKED = 8;

interface Questions {
  /** @throws Error on too many concurrent requests, without a thread, or if the thread answers with an error */
  ask<T>(question: (id: number) => ToKeeper): Promise<T>;
  answered(answer: Extract<FromKeeper, { kind: 'answer' }>): void;
  failAll(problem: string): void;
}

/** @param post sends a message to the thread; false if there is none */
export function createQuestions(post: (message: ToKeeper) => boolean): Questions {
  const open = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let last = 0;
  return {
    ask<T>(question: (id: number) => ToKeeper): Promise<T> {
      if (open.size >= MOST_ASKED) return Promise.reject(new Error('too many searches at once; try again in a moment'));
      const { promise, resolve, reject } = Promise.withResolvers<T>();
      const id = ++last;
      open.set(id, { resolve: resolve as (value: unknown) => void, reject });
      if (!post(question(id))) {
        open.delete(id);
        reject(new Error('the thread that keeps the record is not running'));
      }
      return promise;
    },
    answered({ id, value, error }) {
      const question = open.get(id);
      open.delete(id);
      if (error === undefined) question?.resolve(value);
      else question?.reject(new Error(error));
    },
    failAll(problem) {
      for (const { reject } of open.values()) reject(new Error(problem));
      open.clear();
    },
  };
}
