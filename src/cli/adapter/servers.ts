/** The servers with adapters. */
import { ejabberd } from './ejabberd/ejabberd.ts';
import { mongooseim } from './mongooseim/mongooseim.ts';
import { prosody } from './prosody/prosody.ts';
import type { AdapterServer } from './server.ts';

export const SERVERS: readonly AdapterServer[] = [prosody, ejabberd, mongooseim];
