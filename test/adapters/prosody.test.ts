import { startProsody } from '../support/prosody.ts';
import { adapterContract } from './contract.ts';

adapterContract('prosody', startProsody);
