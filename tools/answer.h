#pragma once
#include "engine/generate.h"

namespace stamp {

/// generate() for somebody who watches: the text goes to stdout as it comes, with a newline at its end;
/// before it stands a progress bar for the prompt; Ctrl-C ends the answer. Throws as generate() does.
GenerateResult answer_on_terminal(Session& session, const GenerateRequest& request);

}  // namespace stamp
