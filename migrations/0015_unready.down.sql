DROP TABLE unready;
