import * as v from 'valibot';
import { errorCodes } from '../../base/index.ts';

/** An error as it crosses between processes, beside the message that it also has: a person sees it as if it were local. */
export const plainErrorSchema = v.object({
  message: v.pipe(v.string(), v.maxLength(2_000)),
  code: v.picklist(errorCodes),
  reason: v.pipe(v.string(), v.maxLength(100), v.regex(/^[a-z]+\.[a-z-]+$/)),
  hint: v.exactOptional(v.pipe(v.string(), v.maxLength(2_000))),
});
