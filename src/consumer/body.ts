/** Published messages, parsed. Made by `npm run docs`; a test fails when it is stale. */

/** A user came online or went offline. */
export interface PresenceBody {
  /** the user: a bare JID in lower case, or what the plugin makes of it */
  readonly user_id: string;
  /** whether the user is online from now on */
  readonly present: boolean;
  /** presence, pm or muc */
  readonly type?: 'presence' | 'pm' | 'muc';
  /** the XMPP domain (virtual host) */
  readonly host?: string;
  /** the session of a presence, or the sender of a message, unchanged */
  readonly user?: string;
  /** … without resource, in lower case */
  readonly 'user.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'user.local'?: string;
  /** … its domain, in lower case */
  readonly 'user.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'user.resource'?: string;
  /** the sender of a message, unchanged */
  readonly from?: string;
  /** … without resource, in lower case */
  readonly 'from.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'from.local'?: string;
  /** … its domain, in lower case */
  readonly 'from.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'from.resource'?: string;
  /** a message's destination, unchanged */
  readonly to?: string;
  /** … without resource, in lower case */
  readonly 'to.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'to.local'?: string;
  /** … its domain, in lower case */
  readonly 'to.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'to.resource'?: string;
  /** the room of a group message, without resource, in lower case */
  readonly room?: string;
  /** the number of the user's available sessions after a presence, if the server can count them */
  readonly sessions?: number;
  /** the id of the event, the same in every repetition: <source>/<epoch>/<number>, or a UUID from a source that does not number its events */
  readonly event_id?: string;
  /** the XMPP server node */
  readonly source?: string;
  /** one run of the adapter on that node */
  readonly epoch?: string;
  /** the event's number in that run: 1, 2, 3 … */
  readonly seq?: number;
  /** the time of the event on the server, in milliseconds since 1970 */
  readonly timestamp?: number;
  /** the same time as 2025-11-22T14:03:11.340Z (RFC 3339) */
  readonly time?: string;
  /** the id of a message's stanza, if its client set one */
  readonly stanza_id?: string;
  /** the text of a message's <thread/> */
  readonly thread?: string;
  /** a message's xml:lang */
  readonly lang?: string;
  /** the number of characters (Unicode code points) of a message */
  readonly 'body.length'?: number;
  /** the W3C trace context of the event */
  readonly traceparent?: string;
}

/** A user sent a message. */
export interface MessageBody {
  /** the recipient or the room: a bare JID in lower case, or what the plugin makes of it */
  readonly to_user_id: string;
  /** the text of <body/>; may be empty */
  readonly message: string;
  /** the sender: a bare JID in lower case, or what the plugin makes of it */
  readonly from_user_id: string;
  /** presence, pm or muc */
  readonly type?: 'presence' | 'pm' | 'muc';
  /** the XMPP domain (virtual host) */
  readonly host?: string;
  /** the session of a presence, or the sender of a message, unchanged */
  readonly user?: string;
  /** … without resource, in lower case */
  readonly 'user.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'user.local'?: string;
  /** … its domain, in lower case */
  readonly 'user.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'user.resource'?: string;
  /** the sender of a message, unchanged */
  readonly from?: string;
  /** … without resource, in lower case */
  readonly 'from.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'from.local'?: string;
  /** … its domain, in lower case */
  readonly 'from.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'from.resource'?: string;
  /** a message's destination, unchanged */
  readonly to?: string;
  /** … without resource, in lower case */
  readonly 'to.bare'?: string;
  /** … the part before the @, in lower case */
  readonly 'to.local'?: string;
  /** … its domain, in lower case */
  readonly 'to.domain'?: string;
  /** … its resource; in a room the nickname */
  readonly 'to.resource'?: string;
  /** the room of a group message, without resource, in lower case */
  readonly room?: string;
  /** the id of the event, the same in every repetition: <source>/<epoch>/<number>, or a UUID from a source that does not number its events */
  readonly event_id?: string;
  /** the XMPP server node */
  readonly source?: string;
  /** one run of the adapter on that node */
  readonly epoch?: string;
  /** the event's number in that run: 1, 2, 3 … */
  readonly seq?: number;
  /** the time of the event on the server, in milliseconds since 1970 */
  readonly timestamp?: number;
  /** the same time as 2025-11-22T14:03:11.340Z (RFC 3339) */
  readonly time?: string;
  /** the id of a message's stanza, if its client set one */
  readonly stanza_id?: string;
  /** the text of a message's <thread/> */
  readonly thread?: string;
  /** a message's xml:lang */
  readonly lang?: string;
  /** the number of characters (Unicode code points) of a message */
  readonly 'body.length'?: number;
  /** the W3C trace context of the event */
  readonly traceparent?: string;
}
