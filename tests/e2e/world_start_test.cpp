// Worlds as launchers start them, inside each other and beside each other, and what a process finds
// before it has met the others.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

struct Started {
  Setting setting;
  Words arguments;
};

std::vector<Ended> run_all(const std::vector<Started>& all) {
  std::vector<Ended> out(all.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < all.size(); ++i) {
    threads.emplace_back([&, i] { out[i] = run_in(all[i].setting, all[i].arguments); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return out;
}

std::vector<Started> world_of(int size, const Words& arguments, const Named& named = torchrun) {
  const int port = free_port();
  std::vector<Started> out(static_cast<std::size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    Started& one = out[static_cast<std::size_t>(rank)];
    one.setting.variables = named(rank, size, port);
    one.arguments = arguments;
  }
  return out;
}

/// The same command behind a line of the shell.
void behind(Started& one, const std::string& line) {
  one.arguments = Words{"-c", line + "; exec \"$0\" \"$@\"", BV_BINARY} + one.arguments;
  one.setting.program = "/bin/bash";
}

Words check_of(const std::string& name, const Words& more = {}) {
  const bool says = std::ranges::find(more, "--patience") != more.end();
  return Words{"check", "--model", golden_hf(name).string(), "--tp", "2"} +
         (says ? Words() : Words{"--patience", "20"}) + more;
}

void expect_all_pass(const std::vector<Started>& all) {
  const auto ends = run_all(all);
  for (std::size_t i = 0; i < ends.size(); ++i) {
    EXPECT_EQ(ends[i].code, 0) << i << ends[i].all();
  }
}

/// A step that has as many tasks as there are hosts, as mpirun starts its daemons.
Variables daemon_step(int port) {
  return {{"SLURM_JOB_ID", std::to_string(port)},
          {"SLURM_STEP_ID", "0"},
          {"SLURM_NTASKS", "2"},
          {"SLURM_STEP_NUM_TASKS", "2"},
          {"SLURM_STEP_NODELIST", "localhost"},
          {"SLURM_PROCID", "1"}};
}

TEST(WorldStart, AnInteractiveStepIsOneProcess) {
  Variables shell = daemon_step(free_port());
  shell["SLURM_NTASKS"] = "4";
  shell["SLURM_STEP_NUM_TASKS"] = "1";
  shell["SLURM_PROCID"] = "0";
  const Ended end = run(check_of("llama", {"--patience", "2"}), shell);
  EXPECT_EQ(end.code, 0) << end.all();
}

TEST(WorldStart, TheInnermostLauncherWins) {
  const auto open_mpi = [](int rank, int size, int port) {
    Variables out = daemon_step(port);
    out.merge(Variables{{"OMPI_COMM_WORLD_SIZE", std::to_string(size)},
                        {"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
                        {"OMPI_COMM_WORLD_LOCAL_SIZE", std::to_string(size)},
                        {"PMIX_NAMESPACE", "prterun-" + std::to_string(port)}});
    return out;
  };
  const auto hydra = [](int rank, int size, int port) {
    Variables out = daemon_step(port);
    out.merge(Variables{{"PMI_SIZE", std::to_string(size)},
                        {"PMI_RANK", std::to_string(rank)},
                        {"MPI_LOCALNRANKS", std::to_string(size)}});
    return out;
  };
  const auto srun_pmi2 = [](int rank, int size, int port) {
    Variables out = daemon_step(port);
    out["SLURM_NTASKS"] = out["SLURM_STEP_NUM_TASKS"] = std::to_string(size);
    out["SLURM_PROCID"] = std::to_string(rank);
    out.merge(Variables{{"PMI_SIZE", std::to_string(size)}, {"PMI_RANK", std::to_string(rank)}});
    return out;
  };
  for (const Named& named : {Named(open_mpi), Named(hydra), Named(srun_pmi2)}) {
    expect_all_pass(world_of(3, check_of("llama"), named));
  }
}

TEST(WorldStart, TwoWorldsOfOneHostDoNotMix) {
  const int port = free_port() / 2 + 20000;
  const auto torch = [&](int world) {
    return [&, world](int rank, int size, int) {
      Variables out = torchrun(rank, size, port + world);
      out["TORCHELASTIC_RUN_ID"] = "none";
      return out;
    };
  };
  const auto hydra = [](int) {
    return [](int rank, int size, int) {
      return Variables{{"PMI_SIZE", std::to_string(size)},
                       {"PMI_RANK", std::to_string(rank)},
                       {"MPI_LOCALNRANKS", std::to_string(size)}};
    };
  };
  const auto both = [&](const auto& named) {
    auto all = world_of(2, check_of("llama"), named(0));
    for (Started& one : world_of(2, check_of("qwen3"), named(1))) {
      all.push_back(std::move(one));
    }
    std::swap(all[0], all[3]);
    expect_all_pass(all);
  };
  both(torch);
  both(hydra);
}

TEST(WorldStart, WhatTheErrorAdvisesRunsAlone) {
  const Variables mpi = {{"OMPI_COMM_WORLD_SIZE", "2"},
                         {"OMPI_COMM_WORLD_RANK", "0"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                         {"PMIX_NAMESPACE", "a"}};
  for (const Words& line :
       {Words{"survey", fixture("registries")}, check_of("llama", {"--patience", "1"})}) {
    EXPECT_THAT(run(line, mpi).flat(), HasSubstr("env -u OMPI_COMM_WORLD_SIZE bridge-verify ..."));
  }
}

TEST(WorldStart, AProcessThatSeesOneGpuTakesIt) {
  auto all = world_of(2, check_of("llama", {"--level", "data", "--device", "cuda"}));
  for (Started& one : all) {
    one.setting.program = BV_COMMAND_ON_HOST;
    one.setting.variables["FAKE_CUDA"] = "devices=1";
  }
  expect_all_pass(all);
}

TEST(WorldStart, WhatAProcessFindsBeforeItMeetsTheOthersIsPrintedByIt) {
  auto all = world_of(2, check_of("llama", {"--patience", "1"}));
  all[1].setting.variables["MASTER_ADDR"] = "nosuch.invalid";
  const auto ends = run_all(all);
  EXPECT_EQ(ends[0].code, 5);
  EXPECT_NE(ends[1].code, 0);
  EXPECT_THAT(ends[1].err, HasSubstr("nosuch.invalid of MASTER_ADDR is not known here"));
}

TEST(WorldStart, TheUsualLimitOfOpenFilesIsNoLimit) {
  auto all = world_of(20, check_of("llama"));
  for (const std::size_t rank : {0U, 7U}) {
    behind(all[rank], "ulimit -S -n 18");
  }
  expect_all_pass(all);
}

/// Wherever it stops: before it finds rank 0, or between any two of the connections.
TEST(WorldStart, AProcessThatCanOpenNoMoreFilesIsNamedAtOnceByAll) {
  constexpr std::size_t kSize = 12;
  for (const std::size_t odd : {0U, 1U, 5U, 11U}) {
    for (const std::uint64_t files : {8U, 10U, 13U}) {
      auto all = world_of(kSize, check_of("llama", {"--patience", "60"}));
      all[odd].setting.limits.open_files = files;
      const auto begin = std::chrono::steady_clock::now();
      const auto ends = run_all(all);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(40));
      const std::string cause = "rank " + std::to_string(odd) + " on host ";
      for (const Ended& end : ends) {
        EXPECT_EQ(end.code, 5) << end.all();
        EXPECT_THAT(end.flat(), ContainsRegex(cause + "[^ ]+ can open no more files"))
            << odd << " " << files;
      }
    }
  }
}

/// What one process cannot read or use is an end for all, told once.
TEST(WorldStart, ABadOptionOfOneProcessEndsAllAtOnce) {
  const std::vector<std::pair<Words, std::string>> wrong = {
      {{"--no-such-option"}, "--no-such-option"}, {{"--tp", "some"}, "some"}};
  for (const auto& [words, said] : wrong) {
    for (const std::size_t odd : {0U, 1U}) {
      auto all = world_of(3, check_of("llama", {"--patience", "60"}));
      all[odd].arguments = all[odd].arguments + words;
      const auto begin = std::chrono::steady_clock::now();
      const auto ends = run_all(all);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
      EXPECT_NE(ends[0].code, 0);
      EXPECT_THAT(ends[0].flat(), HasSubstr(said)) << odd;
      EXPECT_EQ(ends[1].code, ends[0].code) << said << odd << ends[1].all();
      EXPECT_EQ(ends[2].code, ends[0].code) << said << odd << ends[2].all();
      EXPECT_EQ(ends[1].all() + ends[2].all(), "") << said << odd;
    }
  }
}

TEST(WorldStart, ABadOptionOfAllIsToldOnce) {
  const auto ends = run_all(world_of(4, check_of("llama", {"--no-such-option"})));
  EXPECT_THAT(ends[0].flat(), HasSubstr("--no-such-option"));
  for (const Ended& end : ends) {
    EXPECT_EQ(end.code, 2);
    EXPECT_TRUE(&end == &ends[0] || end.all().empty()) << end.all();
  }
}

TEST(WorldStart, RankZeroAloneNeedsTheFolderOfReports) {
  const TempFolder temp;
  auto all = world_of(2, check_of("llama", {"--out", "reports"}));
  all[0].setting.folder = temp.path();
  all[1].setting.folder = "/proc";
  expect_all_pass(all);
  EXPECT_TRUE(fs::exists(temp / "reports/verdicts.json"));
}

TEST(WorldStart, AFolderOfReportsThatCannotBeMadeEndsAllAtOnce) {
  const auto begin = std::chrono::steady_clock::now();
  const auto ends =
      run_all(world_of(2, check_of("llama", {"--out", "/proc/none/reports", "--patience", "60"})));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  EXPECT_NE(ends[0].code, 0);
  EXPECT_EQ(ends[0].code, ends[1].code);
  EXPECT_THAT(ends[0].flat(), HasSubstr("/proc/none"));
  EXPECT_EQ(ends[1].all(), "");
}

/// The disk of rank 1 has what a run that was killed left under the same name.
TEST(WorldStart, AnUnfinishedFolderOnAnotherDiskIsNotTheOneOfThisRun) {
  const TempFolder temp;
  fs::create_directory(temp / "disk");
  const std::string out = temp / "disk/out";
  auto all = world_of(2, {"convert", "--to", "megatron", "--model", golden_hf("llama").string(),
                          "--tp", "2", "--out", out, "--patience", "20"});
  std::ofstream(temp / "node") << "mount -t tmpfs none \"$DISK\" && mkdir \"$DISK/out.bv-partial\" "
                                  "&& printf 'a\\0' > \"$DISK/out.bv-partial/.bv-run\" && "
                                  "exec \"$0\" \"$@\"";
  all[1].arguments =
      Words{"-m", "/bin/bash", "-c", file_text(temp / "node"), BV_BINARY} + all[1].arguments;
  if (::geteuid() != 0) {
    all[1].arguments.insert(all[1].arguments.begin(), "-r");
  }
  all[1].setting.program = "/usr/bin/unshare";
  all[1].setting.variables["DISK"] = temp / "disk";
  const auto ends = run_all(all);
  EXPECT_THAT(ends[0].flat(),
              HasSubstr("rank 1 (tp1 pp0 ep0) does not see the folder that rank 0 has made"))
      << ends[1].all();
  EXPECT_EQ(ends[0].code, ends[1].code);
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace bv::e2e
