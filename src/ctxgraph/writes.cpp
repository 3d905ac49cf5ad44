#include "ctxgraph/writes.h"

#include <algorithm>

namespace nullbox::ctxgraph {

constexpr size_t kMaxBatch = 64;
constexpr size_t kMaxBatchBytes = size_t{2} << 20;

void Writes::put(Write write, Done done) {
    waiting_.push_back({std::move(write), std::move(done)});
    schedule();
}

void Writes::schedule() {
    if (scheduled_ || waiting_.empty()) return;
    scheduled_ = true;
    later_([this] { commit(); });
}

void Writes::commit() {
    scheduled_ = false;
    std::vector<Write> batch;
    std::vector<Done> answers;
    for (size_t bytes = 0; !waiting_.empty() && batch.size() < kMaxBatch && bytes < kMaxBatchBytes;) {
        bytes += waiting_.front().write.value.size();
        batch.push_back(std::move(waiting_.front().write));
        answers.push_back(std::move(waiting_.front().done));
        waiting_.pop_front();
    }
    schedule(); // the rest
    auto results = store_.apply(batch);
    std::vector<std::string> spaces;
    for (size_t i = 0; i < results.size(); i++)
        if (results[i].has_value() && results[i]->outcome == Written::Outcome::Created &&
            !std::ranges::contains(spaces, batch[i].space))
            spaces.push_back(batch[i].space);
    for (size_t i = 0; i < results.size(); i++) answers[i](std::move(results[i]));
    if (on_new && !spaces.empty()) on_new(spaces);
}

} // namespace nullbox::ctxgraph
