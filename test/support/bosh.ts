/** A minimal BOSH client (XEP-0124, XEP-0206), which can log in and send: xmpp.js has none. */
import { type Element, parse } from 'ltx';
import { until } from './process.ts';
import { password, type Reachable } from './server.ts';
import type { ResumableClient } from './xmpp.ts';

const attributes = "xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'";

export async function openBosh(server: Reachable, user: string, resource: string): Promise<ResumableClient> {
  const received: Element[] = [];
  const abort = new AbortController();
  let rid = Math.floor(Math.random() * 1e9);
  let sid = '';
  let outstanding = 0;
  let ended = false;

  async function request(extra: string, payload: string): Promise<Element> {
    outstanding++;
    const session = sid === '' ? '' : `sid='${sid}'`;
    const response = await fetch(server.boshUrl, {
      method: 'POST',
      headers: { 'content-type': 'text/xml; charset=utf-8' },
      body: `<body rid='${rid++}' ${session} ${extra} ${attributes}>${payload}</body>`,
      signal: abort.signal,
    });
    const body = parse(await response.text());
    outstanding--;
    if (body.attrs.type === 'terminate') ended = true;
    received.push(...body.getChildElements());
    return body;
  }

  // The server may hold each request until it has something to send, and always needs an open request to answer.
  async function exchange(extra: string, payload: string): Promise<void> {
    await request(extra, payload);
    if (!ended && outstanding === 0) start('', '');
  }

  // At most two requests at a time, as agreed with `hold`, and never sent together: they use separate connections, and
  // ejabberd 23.01 loses a request that overtakes the previous one.
  let startedAt = 0;
  let turn = Promise.resolve();
  function free(): Promise<void> {
    const isFree = () => outstanding < 2 && Date.now() - startedAt >= 20;
    turn = turn
      .then(() => until('a request to be answered', isFree))
      .then(() => {
        startedAt = Date.now();
      });
    return turn;
  }

  function start(extra: string, payload: string): void {
    free()
      .then(() => exchange(extra, payload))
      .catch(fail);
  }
  function fail(error: Error): void {
    if (!ended) failure = error;
  }
  let failure: Error | undefined;

  let read = 0;
  async function expect(name: string): Promise<Element> {
    const find = () => received.findIndex((element, index) => index >= read && element.is(name));
    await until(`<${name}/> over BOSH`, () => find() !== -1 || failure !== undefined);
    if (failure) throw failure;
    read = find() + 1;
    return received[read - 1]!;
  }

  const created = await request(
    `to='${server.host}' wait='20' hold='1' ver='1.6' xmpp:version='1.0' xml:lang='en' content='text/xml; charset=utf-8'`,
    '',
  );
  sid = created.attrs.sid;
  start('', '');
  const secret = Buffer.from(`\0${user}\0${password}`).toString('base64');
  start('', `<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${secret}</auth>`);
  await expect('success');
  start(`to='${server.host}' xmpp:restart='true'`, '');
  const bind = `<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>${resource}</resource></bind>`;
  start('', `<iq xmlns='jabber:client' type='set' id='bind'>${bind}</iq>`);
  const jid = (await expect('iq')).getChild('bind')!.getChildText('jid')!;

  const terminate = async (payload: string) => {
    await free();
    ended = true;
    await request("type='terminate'", payload);
    abort.abort();
  };
  return {
    jid,
    bare: jid.split('/')[0]!,
    received,
    async send(stanza) {
      stanza.attrs.xmlns = 'jabber:client';
      if (failure) throw failure;
      start('', stanza.toString());
    },
    closeStream: () => terminate(''),
    logout: () => terminate("<presence xmlns='jabber:client' type='unavailable'/>"),
    cut() {
      ended = true;
      abort.abort();
    },
    resume: () => Promise.reject(new Error('BOSH sessions have no stream management')),
  };
}
