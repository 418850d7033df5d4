/** Answers of servers that may be anything. */

/** The daemon's answers that are read like this are far smaller; another server's may be endless. */
const MOST_BYTES = 64 * 1024;

/** Reads an answer up to that limit. */
export async function beginning(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MOST_BYTES) break;
  }
  return Buffer.concat(chunks).toString();
}
