// The roads of collectives by processes, over their sockets and over NCCL (fake/fake_nccl.cpp), for
// every golden model in worlds of 2, 4 and 8: the bytes are those of the direct road. A library
// that carries wrong bytes, and a road that lies, are seen.

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "core/comm/nccl.hpp"
#include "core/comm/processes.hpp"
#include "core/comm/sockets.hpp"
#include "core/comm/threads.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/core/comm/road_case.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::comm {
namespace {

constexpr Milliseconds kProcessPatience{30000};
constexpr unsigned kProcessSeconds = 90;

/// What every rank must have: parameters of the direct road, and HF tensors of a world of threads,
/// which are those of the checkpoint where no type is changed.
struct Wanted {
  Held parameters;
  std::map<std::string, Bytes> tensors;
};

Status export_to(Link& link, const Case& one, const Held& held,
                 std::map<std::string, Bytes>& tensors) {
  return gather_tensors(
      link, one.plan, one.source.headers, one.policy,
      [&](const plan::ShardFile& file, const plan::Target& target) -> Result<TypedBytes> {
        return held.at(key_of(file, target));
      },
      [&](const std::string& hf, TypedBytes made) -> Status {
        tensors[hf] = std::move(made.bytes);
        return Done{};
      });
}

Wanted wanted_of(const Case& one, int size) {
  Wanted out;
  for (const plan::ShardFile& file : one.plan.files()) {
    for (const plan::Target& target : file.targets) {
      out.parameters[key_of(file, target)] = direct(one.source, one.plan, target, one.policy);
    }
  }
  for (const Status& end : run_world(size, kProcessPatience, [&](Link& link) -> Status {
         Held held;
         BV_CHECK(import_on(link, one, held));
         std::map<std::string, Bytes> tensors;
         BV_CHECK(export_to(link, one, held, tensors));
         if (link.rank() == 0) {
           out.tensors = std::move(tensors);
         }
         return Done{};
       })) {
    EXPECT_TRUE(end) << end.error().message;
  }
  for (const auto& [hf, made] : out.tensors) {
    EXPECT_TRUE(one.policy.params || made == there_and_back(one, hf)) << hf;
  }
  return out;
}

/// The work of one process: "" when all of its bytes are right.
std::string road_of(const Launch& launch, const Case& one, const Wanted& wanted, bool by_nccl) {
  auto link = enter(launch, kProcessPatience);
  if (!link) {
    return link.error().message;
  }
  if (by_nccl) {
    auto maker = open_nccl(launch.rank, kProcessPatience, {{BV_FAKE_NCCL}, {BV_FAKE_NCCL}});
    if (!maker) {
      return maker.error().message;
    }
    (*link)->carry_by(std::move(*maker));
  }
  Held held;
  std::map<std::string, Bytes> tensors;
  const auto done = [&]() -> Status {
    BV_CHECK(import_on(**link, one, held));
    BV_CHECK(export_to(**link, one, held, tensors));
    BV_CHECK((*link)->last_word("done"));
    return Done{};
  }();
  if (!done) {
    (*link)->fail_all(done.error());
    return done.error().message;
  }
  for (const auto& [name, made] : held) {
    const auto at = wanted.parameters.find(name);
    if (at == wanted.parameters.end() || !(at->second == made)) {
      return "other bytes in " + name;
    }
  }
  for (const auto& [name, bytes] : wanted.tensors) {
    if (tensors[name] != bytes) {
      return "other bytes in " + name;
    }
  }
  return held.empty() || tensors.size() != wanted.tensors.size() ? "tensors are missing" : "";
}

/// What the processes of a world say is wrong, by rank.
std::vector<std::string> in_processes(int size, const Case& one, const Wanted& wanted,
                                      bool by_nccl) {
  const int port = listen_at(0, true)->port;
  std::vector<pid_t> children;
  std::vector<io::Descriptor> words;
  for (int rank = 0; rank < size; ++rank) {
    std::array<int, 2> pipe{};
    EXPECT_EQ(::pipe(pipe.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(kProcessSeconds);
      const std::string wrong = road_of(
          {rank, size, "127.0.0.1", port, false, "roads", "1", "here"}, one, wanted, by_nccl);
      const auto sent = ::write(pipe[1], wrong.data(), wrong.size());
      ::_exit(sent == std::ssize(wrong) ? 0 : 1);
    }
    ::close(pipe[1]);
    children.push_back(child);
    words.emplace_back(pipe[0]);
  }
  std::vector<std::string> out;
  for (std::size_t rank = 0; rank < children.size(); ++rank) {
    std::string& text = out.emplace_back();
    std::array<char, 512> some{};
    for (ssize_t got = 1; got > 0;) {
      got = ::read(words[rank].number(), some.data(), some.size());
      text.append(some.data(), static_cast<std::size_t>(std::max<ssize_t>(0, got)));
    }
    int status = 0;
    ::waitpid(children[rank], &status, 0);
    if (status != 0 && text.empty()) {
      text = "ended with " + std::to_string(status);
    }
  }
  return out;
}

int axes_of(const parallel::Layout& layout) {
  return (layout.tp > 1 ? 1 : 0) + (layout.pp > 1 ? 1 : 0) + (layout.ep > 1 ? 1 : 0) +
         (layout.etp > 1 ? 1 : 0);
}

/// Of the layouts of this many ranks one that divides along most axes: the `turn`th of these.
std::optional<parallel::Layout> layout_for(const model::Model& model, int size, std::size_t turn) {
  std::vector<parallel::Layout> best;
  int most = 0;
  for (const parallel::Layout& one : plan::layouts_up_to(model, {}, 8, 0).layouts) {
    const int axes = axes_of(one);
    if (parallel::minimum_world(one) != size || axes < most) {
      continue;
    }
    if (axes > most) {
      best.clear();
      most = axes;
    }
    best.push_back(one);
  }
  return best.empty() ? std::nullopt : std::optional(best[turn % best.size()]);
}

/// Another type than most tensors have, so that the elements are cast on the way.
plan::DtypePolicy other_type(const Headers& headers) {
  std::size_t wide = 0;
  for (const auto& [name, spec] : headers) {
    wide += spec.dtype == DType::F32 ? 1U : 0U;
  }
  return {2 * wide > headers.size() ? DType::BF16 : DType::F32};
}

class RoadsOfProcesses : public ::testing::TestWithParam<std::string> {};

TEST_P(RoadsOfProcesses, GiveEveryRankTheBytesOfTheDirectOneOverSocketsAndNccl) {
  const checkpoint::HfModel source = support::open_golden(GetParam());
  const std::size_t turn = std::hash<std::string>()(GetParam());
  int worlds = 0;
  for (const int size : {2, 4, 8}) {
    const auto layout = layout_for(source.model, size, turn);
    if (!layout) {
      continue;  // no layout of this model has so many ranks
    }
    const auto plan = plan::Plan::make(source.model, support::catalogue(), *layout);
    ASSERT_TRUE(plan) << plan.error().message;
    const Case one{source, *plan, size == 4 ? other_type(source.headers) : plan::DtypePolicy{}};
    const Wanted wanted = wanted_of(one, size);
    for (const bool by_nccl : {false, true}) {
      ++worlds;
      EXPECT_THAT(in_processes(size, one, wanted, by_nccl), ::testing::Each(std::string()))
          << parallel::layout_id(*layout) << (by_nccl ? " over NCCL" : " over sockets");
    }
  }
  EXPECT_GT(worlds, 0);
}

INSTANTIATE_TEST_SUITE_P(Goldens, RoadsOfProcesses, ::testing::ValuesIn(support::golden_cases()),
                         [](const auto& one) { return one.param; });

/// Faults of the library that the road must not survive: bytes of the wrong rank, a count that
/// leaves out the end of a message that is no multiple of 16, elements taken for narrower ones.
TEST(WrongBytes, OfALibraryAreSeenOnTheRoad) {
  const checkpoint::HfModel source = support::open_golden("qwen3_moe");
  std::map<std::string, int> seen;
  for (std::size_t turn = 0; turn < 6; ++turn) {  // not every layout has a message of each kind
    const auto layout = layout_for(source.model, 4, turn);
    ASSERT_TRUE(layout);
    const auto plan = plan::Plan::make(source.model, support::catalogue(), *layout);
    ASSERT_TRUE(plan) << plan.error().message;
    const Case one{source, *plan, other_type(source.headers)};
    const Wanted wanted = wanted_of(one, 4);
    for (const char* fault : {"root", "ragged", "dtype"}) {
      ::setenv("FAKE_NCCL", fault, 1);
      const auto said = in_processes(4, one, wanted, true);
      ::unsetenv("FAKE_NCCL");
      seen[fault] += std::ranges::any_of(said, [](const auto& text) { return !text.empty(); });
    }
  }
  for (const char* fault : {"root", "ragged", "dtype"}) {
    EXPECT_GT(seen[fault], 0) << fault;
  }
}

}  // namespace
}  // namespace bv::comm
