// The world as torchrun, srun and mpirun say it.

#include <gtest/gtest.h>

#include <map>

#include "core/comm/launch.hpp"

namespace bv::comm {
namespace {

using Variables = std::map<std::string, std::string, std::less<>>;

Result<std::optional<Launch>> launched(const Variables& variables, std::string_view command = "") {
  return launch_from(
      [&](std::string_view name) {
        const auto found = variables.find(name);
        return found == variables.end() ? std::string() : found->second;
      },
      command);
}

std::string text(const Launch& one) {
  return std::to_string(one.rank) + "/" + std::to_string(one.size) + " " + one.address + ":" +
         std::to_string(one.port) + (one.port_is_taken ? "+" : "") + " " + one.run;
}

TEST(Launch, IsNoneWithoutALauncherAndForOneProcess) {
  EXPECT_FALSE(launched({}).value());
  EXPECT_FALSE(launched({{"WORLD_SIZE", "1"}, {"RANK", "0"}}).value());
  EXPECT_FALSE(launched({{"RANK", "0"}}).value());
}

TEST(Launch, OfTorchrun) {
  Variables torchrun = {{"WORLD_SIZE", "8"},         {"RANK", "3"},
                        {"MASTER_ADDR", "node1"},    {"MASTER_PORT", "29400"},
                        {"SLURM_NTASKS", "2"},       {"SLURM_PROCID", "1"},
                        {"SLURM_STEP_NODELIST", "a"}};
  EXPECT_EQ(text(*launched(torchrun).value()), "3/8 node1:29400 port 29400");
  torchrun["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  torchrun["TORCHELASTIC_RUN_ID"] = "none";
  EXPECT_EQ(text(*launched(torchrun).value()), "3/8 node1:29400+ none, port 29400");
}

TEST(Launch, OfSrunIsOnlyThatOfAStep) {
  Variables slurm = {{"SLURM_NTASKS", "4"},
                     {"SLURM_PROCID", "0"},
                     {"SLURM_NODELIST", "gpu[003-004]"},
                     {"SLURM_JOB_ID", "77"}};
  EXPECT_FALSE(launched(slurm).value()) << "a batch script is one process";
  slurm["SLURM_STEP_NODELIST"] = "gpu[003-004]";
  slurm["SLURM_STEP_ID"] = "2";
  const auto launch = launched(slurm).value();
  EXPECT_EQ(launch->address, "gpu003");
  EXPECT_EQ(launch->run, "77.2");
  slurm["SLURM_PROCID"] = "3";
  EXPECT_EQ(launched(slurm).value()->port, launch->port) << "all processes compute one port";
}

TEST(Launch, OfSrunHasTheTasksOfItsStepAndNotOfTheAllocation) {
  Variables shell = {{"SLURM_JOB_ID", "7"},         {"SLURM_STEP_ID", "4294967290"},
                     {"SLURM_NTASKS", "4"},         {"SLURM_STEP_NUM_TASKS", "1"},
                     {"SLURM_STEP_NODELIST", "n1"}, {"SLURM_PROCID", "0"}};
  EXPECT_FALSE(launched(shell).value()) << "an interactive step is one process";
  shell["SLURM_STEP_NUM_TASKS"] = "2";
  EXPECT_EQ(launched(shell).value()->size, 2);
}

/// What a process of mpirun inherits from the step that started the daemon of its host.
Variables daemon_step() {
  return {{"SLURM_JOB_ID", "7"},
          {"SLURM_STEP_ID", "0"},
          {"SLURM_NTASKS", "2"},
          {"SLURM_STEP_NUM_TASKS", "2"},
          {"SLURM_STEP_NODELIST", "n1,n2"},
          {"SLURM_PROCID", "1"},
          {"SLURM_LOCALID", "0"},
          {"SLURM_STEP_TASKS_PER_NODE", "1(x2)"}};
}

TEST(Launch, OfMpirunInsideAStepIsNotThatOfItsDaemons) {
  Variables open_mpi = daemon_step();
  open_mpi.merge(Variables{{"OMPI_COMM_WORLD_SIZE", "4"},
                           {"OMPI_COMM_WORLD_RANK", "3"},
                           {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                           {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                           {"PMIX_NAMESPACE", "prterun-n1-99@1"},
                           {"MASTER_ADDR", "n1"}});
  const auto launch = launched(open_mpi).value();
  EXPECT_EQ(std::pair(launch->rank, launch->size), std::pair(3, 4));
  EXPECT_EQ(launch->run, "prterun-n1-99@1");
  Variables hydra = daemon_step();
  hydra.merge(Variables{
      {"PMI_SIZE", "2"}, {"PMI_RANK", "0"}, {"MPI_LOCALNRANKS", "2"}, {"MPI_LOCALRANKID", "0"}});
  EXPECT_EQ(launched(hydra).value()->address, "127.0.0.1");
  EXPECT_EQ(launched(hydra).value()->rank, 0);
  EXPECT_EQ(launched(hydra).value()->run, "") << "the step may hold two runs of mpirun";
  hydra["PMI_SIZE"] = "1";
  EXPECT_FALSE(launched(hydra).value()) << "mpirun -np 1 is one process, wherever it runs";
}

TEST(Launch, OfSrunWithPmiIsThatOfTheStep) {
  Variables pmi2 = daemon_step();
  pmi2.merge(Variables{{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}, {"PMI_JOBID", "7.0"}});
  const std::string of_step = text(*launched(daemon_step()).value());
  EXPECT_EQ(text(*launched(pmi2).value()), of_step);
  pmi2["PMI_SIZE"] = "1";  // of a shell that an earlier step started
  pmi2["PMI_RANK"] = "0";
  EXPECT_EQ(text(*launched(pmi2).value()), of_step);
  Variables pmix = daemon_step();
  pmix.merge(Variables{{"PMIX_RANK", "1"}, {"PMIX_NAMESPACE", "slurm.pmix.7.0"}});
  EXPECT_EQ(text(*launched(pmix).value()), of_step);
}

TEST(Launch, TwoRunsOfOneLauncherAreNotOneWorld) {
  Variables torchrun = {{"WORLD_SIZE", "2"},
                        {"RANK", "0"},
                        {"MASTER_ADDR", "h"},
                        {"MASTER_PORT", "29400"},
                        {"TORCHELASTIC_RUN_ID", "none"}};
  const std::string run = launched(torchrun).value()->run;
  torchrun["MASTER_PORT"] = "29401";
  EXPECT_NE(launched(torchrun).value()->run, run);
  torchrun["SLURM_STEP_NODELIST"] = "h";  // a step for each node: what it says is not of the world
  torchrun["SLURM_JOB_ID"] = "7";
  const std::string on_one = launched(torchrun).value()->run;
  torchrun["SLURM_STEP_ID"] = "5";
  EXPECT_EQ(launched(torchrun).value()->run, on_one);
  const Variables hydra = {{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}, {"MPI_LOCALNRANKS", "2"}};
  const auto one = launched(hydra, "check a").value();
  const auto other = launched(hydra, "check b").value();
  EXPECT_EQ(one->command, launched(hydra, "check a").value()->command);
  EXPECT_NE(one->command, other->command);
  EXPECT_NE(one->port, other->port);
}

TEST(Launch, ARunWithoutANameOnSeveralHostsNeedsAPort) {
  Variables hydra = {{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}, {"MASTER_ADDR", "h"}};
  const auto unnamed = launched(hydra);
  ASSERT_FALSE(unnamed);
  EXPECT_EQ(unnamed.error().code, Code::BadValue);
  EXPECT_EQ(unnamed.error().found, "no MASTER_PORT");
  hydra["MASTER_PORT"] = "29500";
  EXPECT_EQ(text(*launched(hydra).value()), "0/2 h:29500 port 29500");
  hydra.erase("MASTER_PORT");
  hydra["PALS_APID"] = "a-1";
  EXPECT_EQ(launched(hydra).value()->run, "a-1");
}

TEST(Launch, OfMpirunOnOneHostNeedsNoAddress) {
  Variables open_mpi = {{"OMPI_COMM_WORLD_SIZE", "2"},
                        {"OMPI_COMM_WORLD_RANK", "1"},
                        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                        {"PMIX_NAMESPACE", "a@1"}};
  EXPECT_EQ(launched(open_mpi).value()->address, "127.0.0.1");
  open_mpi["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  const auto two_hosts = launched(open_mpi);
  ASSERT_FALSE(two_hosts);
  EXPECT_EQ(two_hosts.error().code, Code::BadValue);
  EXPECT_EQ(two_hosts.error().message, "2 processes of mpirun, and nobody says where rank 0 is");
}

/// Without the variables that are named there is no world, whatever launchers are inside each
/// other.
TEST(Launch, AdviceToRunAloneNamesTheVariablesThatWereTaken) {
  Variables all = daemon_step();
  all.merge(Variables{{"WORLD_SIZE", "2"},
                      {"RANK", "0"},
                      {"MASTER_ADDR", "h"},
                      {"MASTER_PORT", "29400"},
                      {"OMPI_COMM_WORLD_SIZE", "2"},
                      {"OMPI_COMM_WORLD_RANK", "0"},
                      {"PMI_SIZE", "2"},
                      {"PMI_RANK", "0"}});
  for (const auto& [without, advice] : std::vector<std::pair<std::string, std::string>>{
           {"", "env -u WORLD_SIZE -u OMPI_COMM_WORLD_SIZE -u SLURM_STEP_NODELIST -u PMI_SIZE "},
           {"WORLD_SIZE", "env -u OMPI_COMM_WORLD_SIZE -u SLURM_STEP_NODELIST -u PMI_SIZE "},
           {"OMPI_COMM_WORLD_SIZE", "env -u SLURM_STEP_NODELIST -u PMI_SIZE "},
           {"PMI_SIZE", "env -u SLURM_STEP_NODELIST "}}) {
    all.erase(without);
    const auto launch = launched(all).value();
    ASSERT_TRUE(launch);
    EXPECT_EQ(launch->alone, advice + "bridge-verify ...");
  }
  all.erase("SLURM_STEP_NODELIST");
  EXPECT_FALSE(launched(all).value());
}

TEST(Launch, ThePlaceOnAHostIsThatOfTheInnermostLauncher) {
  Variables all = daemon_step();
  const auto of = [&](auto read) {
    return read([&](std::string_view name) {
      const auto found = all.find(name);
      return found == all.end() ? std::string() : found->second;
    });
  };
  EXPECT_EQ(of(place_on_host), 0);
  EXPECT_EQ(of(processes_on_host), 1);
  all.merge(Variables{{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
  EXPECT_EQ(of(place_on_host), 3);
  EXPECT_EQ(of(processes_on_host), 4);
  all.merge(Variables{{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}});
  EXPECT_EQ(of(place_on_host), 1);
  EXPECT_EQ(of(processes_on_host), 2);
  all["LOCAL_RANK"] = "none";
  EXPECT_EQ(of(place_on_host), 3) << "what is no number says nothing";
}

TEST(Launch, AProcessTakesAGpuThatItSees) {
  EXPECT_EQ(device_of(3, 8), 3);
  EXPECT_EQ(device_of(3, 1), 0) << "one GPU a process";
  EXPECT_EQ(device_of(3, 2), 1);
  EXPECT_EQ(device_of(3, 0), 3) << "an error names it";
}

TEST(Launch, RefusesVariablesThatContradictEachOther) {
  for (const Variables& wrong : std::vector<Variables>{
           {{"WORLD_SIZE", "two"}, {"RANK", "0"}},
           {{"WORLD_SIZE", "2"}},
           {{"WORLD_SIZE", "2"}, {"RANK", "2"}, {"MASTER_ADDR", "h"}},
           {{"WORLD_SIZE", "0"}, {"RANK", "0"}},
           {{"WORLD_SIZE", "99999999999999999999"}, {"RANK", "0"}},
           {{"WORLD_SIZE", "2"}, {"RANK", "-1"}},
           {{"WORLD_SIZE", "2"}, {"RANK", "0"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "70000"}}}) {
    const auto launch = launched(wrong);
    ASSERT_FALSE(launch);
    EXPECT_EQ(launch.error().code, Code::BadValue);
  }
}

TEST(Launch, FirstHostOfAList) {
  EXPECT_EQ(first_host("login"), "login");
  EXPECT_EQ(first_host("a,b[1-2]"), "a");
  EXPECT_EQ(first_host("gpu[003-007,9]"), "gpu003");
  EXPECT_EQ(first_host("r[2,5]n[01-04],x"), "r2n01");
  EXPECT_EQ(first_host("gpu[003-007]-ib,login"), "gpu003-ib");
  EXPECT_EQ(first_host(""), "");
  EXPECT_EQ(first_host("a["), "a");
}

}  // namespace
}  // namespace bv::comm
