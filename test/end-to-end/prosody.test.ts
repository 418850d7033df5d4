import { startProsody } from '../support/prosody.ts';
import { scenarios } from './scenarios.ts';

scenarios('Prosody', startProsody);
