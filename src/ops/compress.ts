/** Compresses the admin address's responses, for slow lines: people open the page at night, from a phone. */
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import type { FastifyInstance, FastifyRequest } from 'fastify';

/** A response that fits into one packet isn't worth compressing. */
const LEAST_BYTES = 1_400;
/** Fast, because each response is compressed anew. */
const FAST = { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } };

const compressors = {
  br: (text: string) => promisify(brotliCompress)(text, FAST),
  gzip: (text: string) => promisify(gzip)(text),
};

/**
 * The best encoding that a client accepts; undefined: none
 * (https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding).
 */
export function accepts({ headers }: Pick<FastifyRequest, 'headers'>): 'br' | 'gzip' | undefined {
  const listed = String(headers['accept-encoding'] ?? '')
    .toLowerCase()
    .split(',')
    .map((each) => each.split(';').map((part) => part.trim()));
  const takes = (name: string) =>
    listed.some(([coding, quality]) => coding === name && !/^q=0(\.0*)?$/.test(quality ?? ''));
  if (takes('br')) return 'br';
  return takes('gzip') ? 'gzip' : undefined;
}

/** Compresses text responses if the client accepts that; not streams, which are read as they come. */
export function compressAnswers(server: FastifyInstance): void {
  server.addHook('onSend', async (request, reply, payload) => {
    if (typeof payload !== 'string' || payload.length < LEAST_BYTES || reply.hasHeader('content-encoding'))
      return payload;
    reply.header('vary', 'accept-encoding');
    const encoding = accepts(request);
    if (!encoding) return payload;
    const compressed = await compressors[encoding](payload);
    reply.header('content-encoding', encoding).removeHeader('content-length');
    return compressed;
  });
}
