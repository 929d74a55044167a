// Real processes that do one command together: started by the variables of torchrun and of others,
// killed, stopped and made to disagree.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <random>
#include <regex>
#include <thread>

#include "tests/e2e/quantised_model.hpp"
#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// The document without what differs from run to run.
nlohmann::ordered_json verdicts(const fs::path& folder) {
  nlohmann::ordered_json out = nlohmann::ordered_json::parse(file_text(folder / "verdicts.json"));
  out.erase("run");
  return out;
}

TEST(World, CheckGivesTheVerdictsOfOneProcess) {
  for (const char* name : {"llama", "qwen3_moe_packed"}) {
    const TempFolder temp;
    const std::vector<std::string> line = {"check",   "--model", golden_hf(name).string(),
                                           "--level", "data",    "--out"};
    auto arguments = line;
    arguments.push_back(temp / "out");
    const Ended alone = run(arguments);
    ASSERT_EQ(alone.code, 0) << alone.all();
    const auto wanted = verdicts(temp / "out");
    fs::remove_all(temp / "out");
    for (const int size : {2, 4, 8}) {
      const auto ends = run_world(size, arguments);
      for (std::size_t rank = 0; rank < ends.size(); ++rank) {
        EXPECT_EQ(ends[rank].code, 0) << rank << ends[rank].all();
        EXPECT_EQ(rank == 0, !ends[rank].all().empty()) << "rank 0 alone speaks";
      }
      EXPECT_EQ(verdicts(temp / "out").dump(1), wanted.dump(1)) << name << " by " << size;
      fs::remove_all(temp / "out");
    }
  }
}

TEST(World, SpeaksOfAFaultOnceAndAllEndWithItsCode) {
  const auto ends = run_world(3, {"roundtrip", "--model", golden_hf("qwen3").string(), "--rules",
                                  fixture("broken/swapped_gate_up.rules.json"), "--tp", "1"});
  EXPECT_EQ(ends[0].code, ends[1].code);
  EXPECT_EQ(ends[0].code, ends[2].code);
  EXPECT_NE(ends[0].code, 0);
  EXPECT_EQ(ends[1].all() + ends[2].all(), "");
}

TEST(World, ConvertWritesTheFolderOfOneProcessBothWays) {
  for (const std::string name : {"llama", "qwen3_moe", "llama in FP8"}) {
    const TempFolder temp;
    std::vector<std::string> layout = {"--tp", "2", "--pp", "2"};
    fs::path model = golden_hf(name);
    if (!fs::exists(model)) {
      model = temp / "model";
      layout.insert(layout.end(), {"--dtype", "bfloat16"});
      stored_in::write_sharded(
          stored_in::in_form(EditedCheckpoint::golden("llama"), stored_in::forms().front()), model);
    }
    const auto there = [&](const std::string& out) {
      std::vector<std::string> line = {"convert",      "--to",  "megatron", "--model",
                                       model.string(), "--out", temp / out};
      line.insert(line.end(), layout.begin(), layout.end());
      return line;
    };
    const auto back = [&](const std::string& out) {
      return std::vector<std::string>{"convert",      "--to",  "hf",      "--model",
                                      temp / "alone", "--out", temp / out};
    };
    ASSERT_EQ(run(there("alone")).code, 0);
    ASSERT_EQ(run(back("back")).code, 0);
    for (const int size : {2, 4, 5}) {
      const std::string shards = "shards" + std::to_string(size);
      const std::string hf = "hf" + std::to_string(size);
      for (const Ended& end : run_world(size, there(shards))) {
        EXPECT_EQ(end.code, 0) << end.all();
      }
      for (const Ended& end : run_world(size, back(hf))) {
        EXPECT_EQ(end.code, 0) << end.all();
      }
      EXPECT_TRUE(contents(temp / shards) == contents(temp / "alone")) << name << size;
      EXPECT_TRUE(contents(temp / hf) == contents(temp / "back")) << name << size;
    }
  }
}

std::vector<std::string> merging_line(const std::string& adapter, const std::string& out) {
  const std::string base = fixture("golden/peft/llama_all/base");
  return {"convert", "--to", "megatron", "--model", base,   "--adapter", adapter,
          "--out",   out,    "--tp",     "2",       "--pp", "2"};
}

TEST(World, ConvertMergesAnAdapterLikeOneProcess) {
  const TempFolder temp;
  const std::string adapter = fixture("golden/peft/llama_all/adapter");
  const Ended alone = run(merging_line(adapter, temp / "alone"));
  ASSERT_EQ(alone.code, 0) << alone.all();
  for (const int size : {2, 4, 5}) {
    const std::string out = temp / ("out" + std::to_string(size));
    for (const Ended& end : run_world(size, merging_line(adapter, out))) {
      EXPECT_EQ(end.code, 0) << end.all();
    }
    EXPECT_TRUE(contents(out) == contents(temp / "alone")) << size;
  }
}

TEST(World, ProcessesThatMergeDifferentAdaptersAreTold) {
  const TempFolder temp;
  const std::string right = fixture("golden/peft/llama_all/adapter");
  fs::copy(right, temp / "other");
  std::string config = file_text(temp / "other/adapter_config.json");
  config = std::regex_replace(config, std::regex("\"lora_alpha\": [0-9]+"), "\"lora_alpha\": 7");
  std::ofstream(temp / "other/adapter_config.json") << config;
  const auto ends = run_world(2, merging_line(right, temp / "out"),
                              {{1, {{}, merging_line(temp / "other", temp / "out")}}});
  for (const Ended& end : ends) {
    EXPECT_EQ(end.code, 5) << end.all();
  }
  EXPECT_THAT(ends[0].all(), HasSubstr("BV8017"));
  EXPECT_FALSE(fs::exists(temp / "out"));
}

TEST(World, WhatOneProcessDoesAloneIsRefused) {
  const TempFolder temp;
  const std::string base = fixture("golden/peft/llama_all/base");
  const std::string adapter = fixture("golden/peft/llama_all/adapter");
  const std::vector<std::vector<std::string>> lines = {
      {"lora", "unpack", "--model", base, "--adapter", adapter, "--out", temp / "unpacked"},
      {"mutate", "llama", "--operators", "SWAP"},
      {"fixture", "make", "llama", "--out", temp / "tiny"},
      {"survey", fixture("registries"), "--out", temp / "survey"},
      {"survey", fixture("registries")},
      {"certify", temp / "none.json"},
      {"report", "html", temp / "none.json", "--out", temp / "page.html"},
      {"inspect", "--model", base, "--dump-headers", temp / "dump.headers.json"}};
  for (const auto& line : lines) {
    const auto ends = run_world(2, line);
    EXPECT_EQ(ends[0].code, 2) << line[0] << ends[0].all();
    EXPECT_EQ(ends[1].code, 2) << line[0] << ends[1].all();
    EXPECT_THAT(ends[0].all(), HasSubstr("is the work of one process, and this world has 2"));
    EXPECT_EQ(ends[1].all(), "") << line[0];
  }
  EXPECT_TRUE(files_below(temp / "").empty());
  const Ended alone = run({"diff", base, base}, torchrun(0, 1, free_port()), {});
  EXPECT_EQ(alone.code, 0) << alone.all();
  for (const Ended& end : run_world(2, {"explain", "BV2006"})) {
    EXPECT_EQ(end.code, 0) << "what only says something needs no world";
  }
}

TEST(World, IsStartedBySlurmAndMpiAsWell) {
  const auto slurm = [](int rank, int size, int port) {
    return Variables{{"SLURM_PROCID", std::to_string(rank)},
                     {"SLURM_NTASKS", std::to_string(size)},
                     {"SLURM_STEP_NODELIST", "localhost"},
                     {"SLURM_JOB_ID", std::to_string(port)},
                     {"MASTER_PORT", std::to_string(port)}};
  };
  const auto mpi = [](int rank, int size, int port) {
    return Variables{{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
                     {"OMPI_COMM_WORLD_SIZE", std::to_string(size)},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", std::to_string(size)},
                     {"MASTER_PORT", std::to_string(port)}};
  };
  for (const Named& variables : {Named(slurm), Named(mpi)}) {
    const auto ends =
        run_world(2, {"roundtrip", "--model", golden_hf("llama").string()}, {}, variables);
    EXPECT_EQ(ends[0].code, 0) << ends[0].all();
    EXPECT_EQ(ends[1].code, 0) << ends[1].all();
    EXPECT_EQ(ends[1].all(), "");
  }
}

/// Kills a process some milliseconds after its start.
std::function<void(pid_t)> killed_after(int milliseconds, int signal = SIGKILL) {
  const auto at = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  return [at, signal, done = false](pid_t process) mutable {
    if (!done && std::chrono::steady_clock::now() >= at) {
      done = true;
      ::kill(process, signal);
    }
  };
}

TEST(World, AProcessKilledAtAnyMomentIsNamedAndLeavesNoHalfOutput) {
  const TempFolder temp;
  const auto line = [&](const std::string& out) {
    return std::vector<std::string>{
        "convert", "--to",       "megatron", "--model", golden_hf("qwen3_moe").string(),
        "--out",   temp / out,   "--tp",     "2",       "--pp",
        "2",       "--patience", "5"};
  };
  ASSERT_EQ(run(line("alone")).code, 0);
  const auto wanted = contents(temp / "alone");
  std::mt19937 random(11);
  int lost = 0;
  for (int round = 0; round < 12; ++round) {
    const std::string out = "out" + std::to_string(round);
    const int odd = static_cast<int>(random() % 4);
    const int after = static_cast<int>(random() % 160);
    const auto ends = run_world(4, line(out), {{odd, {killed_after(after), {}}}});
    const std::string where = "rank " + std::to_string(odd) + " after " + std::to_string(after) +
                              " ms: " + ends[0].all() + ends[1].all();
    if (fs::exists(temp / out)) {
      EXPECT_TRUE(contents(temp / out) == wanted) << where;
    }
    for (int rank = 0; rank < 4; ++rank) {
      const Ended& end = ends[static_cast<std::size_t>(rank)];
      if (rank == odd || end.code == 0) {
        continue;
      }
      ++lost;
      EXPECT_EQ(end.code, 5) << where;
      if (rank == 0) {
        EXPECT_THAT(end.all(), HasSubstr("BV8004")) << where;
        EXPECT_THAT(end.flat(), HasSubstr("rank " + std::to_string(odd))) << where;
        EXPECT_FALSE(fs::exists(temp / out)) << where;
      }
    }
  }
  EXPECT_GT(lost, 0) << "no process was killed early enough to be missed";
}

TEST(World, AProcessThatIsStoppedIsNamedWithinThePatience) {
  for (const int after : {10, 25}) {
    const auto ends = run_world(
        3, {"roundtrip", "--model", golden_hf("llama").string(), "--patience", "1"},
        {{2,
          {[stop = killed_after(after, SIGSTOP), kill = killed_after(5000)](pid_t process) mutable {
             stop(process);
             kill(process);
           },
           {}}}});
    if (ends[0].code != 0) {  // it was stopped before its part was done
      EXPECT_EQ(ends[0].code, 5) << ends[0].all();
      EXPECT_THAT(ends[0].flat(), HasSubstr("rank 2")) << after;
      EXPECT_EQ(ends[1].code, 5);
    }
  }
}

TEST(World, AProcessWithAnotherModelIsNamed) {
  const Words line = {"roundtrip", "--model", golden_hf("llama").string()};
  const std::vector<Words> others = {
      {"roundtrip", "--model", golden_hf("qwen3").string()},
      {"roundtrip", "--model", golden_hf("llama").string(), "--tp", "1"},
      {"check", "--model", golden_hf("llama").string()}};
  for (const Words& other : others) {
    const auto ends = run_world(3, line, {{1, {{}, other}}});
    for (const Ended& end : ends) {
      EXPECT_EQ(end.code, 5) << end.all();
      EXPECT_THAT(end.flat(), HasSubstr("BV8017"));
      EXPECT_THAT(end.flat(), HasSubstr(": rank 1 has another "));
    }
  }
}

/// What only one process can know is said by it; in a world all others are silent.
TEST(World, AHostThatIsNotKnownIsSaidByWhoDoesNotKnowIt) {
  const auto variables = [](int rank, int size, int port) {
    Variables out = torchrun(rank, size, port);
    if (rank == 1) {
      out["MASTER_ADDR"] = "no-such-host.invalid";
    }
    return out;
  };
  const auto ends = run_world(
      2, {"check", "--model", golden_hf("llama").string(), "--patience", "1"}, {}, variables);
  EXPECT_THAT(ends[1].flat(), HasSubstr("the host no-such-host.invalid of MASTER_ADDR"));
  EXPECT_THAT(ends[0].flat(), HasSubstr("did not come within 1 s: rank 1"));
}

TEST(World, AnErrorOfOneProcessIsToldByRankZero) {
  const auto ends = run_world(3, {"roundtrip", "--model", golden_hf("llama").string()},
                              {{2, {{}, {"roundtrip", "--model", "/no/such/folder"}}}});
  EXPECT_EQ(ends[0].code, 5);
  EXPECT_THAT(ends[0].flat(), HasSubstr("rank 2 stopped: "));
  EXPECT_THAT(ends[0].flat(), HasSubstr("/no/such/folder"));
  EXPECT_EQ(ends[1].all() + ends[2].all(), "");
}

TEST(World, AProcessWhoseOthersDoNotComeSaysHowToRunAlone) {
  const Ended end = run({"check", "--model", golden_hf("llama").string(), "--patience", "1"},
                        torchrun(0, 3, free_port()));
  EXPECT_EQ(end.code, 5);
  EXPECT_THAT(end.flat(), HasSubstr("2 of the 3 processes of this world did not come within 1 s: "
                                    "rank 1, 2"));
  EXPECT_THAT(end.flat(), HasSubstr("env -u WORLD_SIZE"));
}

TEST(World, WhatIsWrittenByOneProcessIsRefusedInAWorld) {
  const TempFolder temp;
  const auto ends = run_world(2, {"convert", "--to", "torch_dist", "--model",
                                  golden_hf("llama").string(), "--out", temp / "out"});
  EXPECT_EQ(ends[0].code, 2) << ends[0].all();
  EXPECT_THAT(ends[0].flat(), HasSubstr("is the work of one process, and this world has 2"));
  EXPECT_FALSE(fs::exists(temp / "out"));
}

}  // namespace
}  // namespace bv::e2e
