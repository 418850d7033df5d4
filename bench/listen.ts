/**
 * A minimal HTTP server for the other side of a benchmark: requests with a Content-Length, one after another, answered
 * with 200 at once. node:http would use as much CPU as the measured code.
 */
import net, { type AddressInfo } from 'node:net';

/** Answers a request, given its head (starting with the method and path) and body. */
export type Responder = (head: string, body: Buffer) => { readonly type: string; readonly text: string };

export function listen(port: number, answer: Responder): void {
  const server = net.createServer((socket) => {
    let parts: Buffer[] = [];
    let bytes = 0;
    /** Bytes needed to continue: to look for the end of the head, or the complete request. */
    let wanted = 1;
    socket.on('error', () => socket.destroy());
    socket.on('data', (data: Buffer) => {
      parts.push(data);
      bytes += data.length;
      if (bytes < wanted) return;
      let rest = parts.length > 1 ? Buffer.concat(parts) : data;
      for (;;) {
        const end = rest.indexOf('\r\n\r\n');
        wanted = rest.length + 1;
        if (end < 0) break;
        const head = rest.toString('latin1', 0, end);
        const begin = end + 4;
        const next = begin + Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
        if (rest.length < next) {
          wanted = next;
          break;
        }
        const { type, text } = answer(head, rest.subarray(begin, next));
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
        );
        rest = rest.subarray(next);
      }
      parts = rest.length > 0 ? [rest] : [];
      bytes = rest.length;
    });
  });
  server.listen(port, '127.0.0.1', () => {
    process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
  });
}
