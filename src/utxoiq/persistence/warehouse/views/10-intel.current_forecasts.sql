SELECT * FROM intel.forecasts WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY day, forecast_id ORDER BY recorded_at) = 1
