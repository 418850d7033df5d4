/** Server-sent events, as the daemon writes them: one `event:` line and one `data:` line of JSON each. */
import { messageOf, PusherError } from '../errors.ts';

export interface FeedEvent {
  readonly name: string;
  readonly data: unknown;
}

/** The events in a stream. @throws PusherError DAEMON_UNREACHABLE when the stream breaks or ends */
export async function* eventsIn(stream: AsyncIterable<Uint8Array>): AsyncGenerator<FeedEvent> {
  const decoder = new TextDecoder();
  let text = '';
  try {
    for await (const chunk of stream) {
      const events = (text + decoder.decode(chunk, { stream: true })).split('\n\n');
      text = events.pop() as string;
      for (const event of events) {
        const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) ?? [];
        if (name !== undefined) yield { name, data: JSON.parse(data as string) };
      }
    }
  } catch (error) {
    throw new PusherError('DAEMON_UNREACHABLE', `the daemon closed the connection: ${messageOf(error)}`, error);
  }
  throw new PusherError('DAEMON_UNREACHABLE', 'the daemon closed the connection');
}
